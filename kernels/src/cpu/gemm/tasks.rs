//! How products are split into tasks for the threads.

use std::ops::Range;

use super::lhs::Lhs;
use super::macro_kernel::{Gemm, OutputPanel};
use super::PackedRhs;
use crate::cpu::thread_pool;

/// Tasks per thread, about. With several, a thread that is slower than the others takes fewer of them.
const TASKS_PER_THREAD: usize = 4;

/// The same if the lhs of a task does not stay in the cache: each task with the same rows reads it from memory again.
const TASKS_PER_THREAD_OF_LARGE_LHS: usize = 2;

/// With this many tasks per thread, it does not matter whether some threads have one more.
const MANY_TASKS_PER_THREAD: usize = 16;

/// The fewest weights of a task that is worth another thread, with up to 8 rows. With more rows, correspondingly fewer.
const MIN_WEIGHTS_PER_TASK: usize = 1 << 15;

/// Some rows by some panels.
pub(super) struct Task<'a, W> {
    pub lhs: &'a Lhs,
    /// At most [`Lhs::max_task_rows`], from the start of a row tile on.
    pub rows: Range<usize>,
    pub panels: &'a [OutputPanel<'a, W>],
}

/// Splits a product into blocks of rows by groups of panels, all about equally large. Where possible, the number of tasks
/// is a multiple of the number of threads, so that none is idle while the others run the last ones.
pub(super) fn split<'a, W: PackedRhs>(product: &'a Gemm<W>, tasks: &mut Vec<Task<'a, W>>) {
    let Gemm { lhs, panels } = product;
    let weights: usize = panels.iter().map(OutputPanel::weight_count).sum();
    let blocks = row_blocks(lhs.rows(), lhs.max_task_rows(), lhs.tile_rows());
    let rows = blocks.last().map_or(0, Range::len);
    let worthwhile = weights * rows.div_ceil(8) / MIN_WEIGHTS_PER_TASK;
    let tasks_per_thread =
        if lhs.stays_in_cache(rows) { TASKS_PER_THREAD } else { TASKS_PER_THREAD_OF_LARGE_LHS };
    let threads = thread_pool::thread_count();
    let groups = group_count(blocks.len(), threads, tasks_per_thread, worthwhile);
    for rows in blocks {
        let groups = groups_of(panels, groups, OutputPanel::weight_count);
        tasks.extend(groups.map(|panels| Task { lhs, rows: rows.clone(), panels }));
    }
}

/// Splits rows into as few blocks as possible. A block has at most `most` rows, which is a multiple of `tile_rows`, and all
/// blocks have about as many row tiles.
fn row_blocks(rows: usize, most: usize, tile_rows: usize) -> Vec<Range<usize>> {
    let (blocks, tiles) = (rows.div_ceil(most), rows.div_ceil(tile_rows));
    let start = |block: usize| rows.min(block * tiles / blocks * tile_rows);
    (0..blocks).map(|block| start(block)..start(block + 1)).collect()
}

/// The number of groups that the panels are split into, for each block of rows.
fn group_count(
    row_blocks: usize,
    threads: usize,
    tasks_per_thread: usize,
    worthwhile: usize,
) -> usize {
    let row_blocks = row_blocks.max(1);
    let wanted = (tasks_per_thread * threads).div_ceil(row_blocks).min(worthwhile).max(1);
    if row_blocks * wanted >= MANY_TASKS_PER_THREAD * threads {
        return wanted;
    }
    // The smallest number of groups with which every thread has as many tasks.
    let even = (1..threads).find(|groups| (groups * row_blocks).is_multiple_of(threads));
    let even = even.unwrap_or(threads);
    match wanted / even {
        0 if even <= worthwhile => even,
        0 => wanted,
        times => times * even,
    }
}

/// Splits items into up to `groups` groups of consecutive items with about equal sums of sizes. All items are in a group.
fn groups_of<T>(
    mut items: &[T],
    groups: usize,
    size: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let total: usize = items.iter().map(&size).sum();
    let (mut group, mut taken) = (0, 0);
    std::iter::from_fn(move || {
        while !items.is_empty() {
            group += 1;
            let mut count = 0;
            while count < items.len() && (group >= groups || taken < total * group / groups) {
                taken += size(&items[count]);
                count += 1;
            }
            let (first, rest) = items.split_at(count);
            items = rest;
            if count > 0 {
                return Some(first);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_blocks_are_equal_up_to_a_row_tile() {
        assert_eq!(row_blocks(512, 288, 32), [0..256, 256..512]);
        assert_eq!(row_blocks(600, 288, 32), [0..192, 192..384, 384..600]);
        let lengths = row_blocks(2305, 288, 32).into_iter().map(|rows| rows.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [256, 256, 256, 256, 256, 256, 256, 256, 257]);
        assert_eq!(row_blocks(5, 288, 32), vec![0..5]);
        assert!(row_blocks(0, 288, 32).is_empty());
    }

    #[test]
    fn threads_have_as_many_tasks() {
        for threads in 1..40 {
            for row_blocks in 1..10 {
                let groups = group_count(row_blocks, threads, 4, usize::MAX);
                assert_eq!(
                    groups * row_blocks % threads,
                    0,
                    "{threads} threads, {row_blocks} blocks"
                );
            }
        }
        assert_eq!(group_count(3, 2, 4, usize::MAX), 2);
        assert_eq!(group_count(9, 2, 4, usize::MAX), 2);
        assert_eq!(group_count(33, 2, 4, usize::MAX), 1);
        assert_eq!(group_count(1, 16, 2, usize::MAX), 32);
    }

    #[test]
    fn a_small_product_is_split_no_further_than_worthwhile() {
        assert_eq!(group_count(1, 8, 4, 3), 3);
        assert_eq!(group_count(1, 2, 4, 5), 4);
        assert_eq!(group_count(1, 8, 4, 0), 1);
    }

    #[test]
    fn groups_are_about_equal_and_have_all_items() {
        let lengths = |sizes: &[usize], groups| -> Vec<usize> {
            groups_of(sizes, groups, |&size| size).map(<[usize]>::len).collect()
        };
        assert_eq!(lengths(&[1; 28], 2), [14, 14]);
        assert_eq!(lengths(&[1; 28], 3), [9, 9, 10]);
        assert_eq!(lengths(&[1; 2], 4), [1, 1]);
        assert_eq!(lengths(&[5, 1, 1, 1, 1, 1], 2), [1, 5]);
        // Without weights, every output still has to be written.
        assert_eq!(lengths(&[0; 3], 2), [3]);
        assert_eq!(lengths(&[1, 1, 0], 2), [1, 2]);
        assert!(lengths(&[], 2).is_empty());
    }
}
