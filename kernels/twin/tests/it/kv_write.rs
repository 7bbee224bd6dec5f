//! RoPE and the write to the paged KV cache, against the formula in f64.

use std::ptr;

use colm_kernels_twin::kv_write::{colm_kv_write, colm_rope};
use colm_kernels_twin::{status_text, Aligned};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::half_float::{random, HalfFloat};
use crate::paged::{Cache, Shape, BOUND};

const POSITIONS: usize = 50;

/// Cosines and sines of random angles.
struct Table {
    head_dim: usize,
    cos: Aligned<f32>,
    sin: Aligned<f32>,
}

impl Table {
    fn new(rng: &mut StdRng, head_dim: usize) -> Self {
        let angles: Vec<f32> =
            (0..POSITIONS * head_dim / 2).map(|_| rng.random_range(-3.0..3.0)).collect();
        let of =
            |f: fn(f32) -> f32| Aligned::new(&angles.iter().map(|&x| f(x)).collect::<Vec<_>>());
        Self { head_dim, cos: of(f32::cos), sin: of(f32::sin) }
    }

    /// One head, rotated.
    fn rotated<T: HalfFloat>(&self, head: &[T], position: usize) -> Vec<f64> {
        let half = self.head_dim / 2;
        (0..self.head_dim)
            .map(|j| {
                let at = position * half + j % half;
                let (cos, sin) = (self.cos.as_slice()[at], self.sin.as_slice()[at]);
                let sign = if j < half { -1.0 } else { 1.0 };
                let partner = head[(j + half) % self.head_dim].wide();
                head[j].wide() * f64::from(cos) + sign * partner * f64::from(sin)
            })
            .collect()
    }
}

/// Fails if the error exceeds the rounding of the result and of f32 intermediates.
fn assert_rounded<T: HalfFloat>(found: &[T], expected: &[f64]) {
    for (found, &expected) in found.iter().zip(expected) {
        let error = (found.wide() - expected).abs();
        // Half a unit in the last place is at most an eighth of the tolerance of attention.
        assert!(
            error <= T::TOLERANCE / 2.0 * expected.abs() + 1e-6,
            "{found:?}, expected {expected}"
        );
    }
}

fn positions(rng: &mut StdRng, rows: usize) -> Vec<i32> {
    (0..rows).map(|_| rng.random_range(0..POSITIONS as i32)).collect()
}

fn check_rope<T: HalfFloat>(
    head_dim: usize,
    rows: usize,
    heads: usize,
    stride: usize,
    in_place: bool,
) {
    let mut rng = StdRng::seed_from_u64(1);
    let table = Table::new(&mut rng, head_dim);
    let positions = positions(&mut rng, rows);
    let x: Vec<T> = random(&mut rng, rows * stride, BOUND);
    let mut from = Aligned::new(&x);
    let mut to = Aligned::new(&vec![T::NAN; x.len()]);
    let out = if in_place { from.as_mut_ptr() } else { to.as_mut_ptr() };
    // SAFETY: the tensors have `rows` rows of `stride`, the positions are within the table.
    let status = unsafe {
        colm_rope(
            T::DTYPE,
            head_dim as i32,
            from.as_ptr().cast(),
            stride as i64,
            out.cast(),
            stride as i64,
            rows as i32,
            heads as i32,
            table.cos.as_ptr(),
            table.sin.as_ptr(),
            positions.as_ptr(),
            ptr::null_mut(),
        )
    };
    assert_eq!(status, 0, "{}", status_text(status));
    let out = if in_place { from.as_slice() } else { to.as_slice() };
    for (row, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            let at = row * stride + head * head_dim..row * stride + (head + 1) * head_dim;
            assert_rounded(&out[at.clone()], &table.rotated(&x[at], position as usize));
        }
        // The gaps between the rows are unchanged.
        let rest = row * stride + heads * head_dim..(row + 1) * stride;
        let expected = if in_place { &x[rest.clone()] } else { &vec![T::NAN; rest.len()][..] };
        assert!(out[rest].iter().zip(expected).all(|(a, b)| a.bits() == b.bits()));
    }
}

#[test]
fn rope_works_in_place_and_out_of_place() {
    for in_place in [false, true] {
        check_rope::<bf16>(64, 13, 3, 3 * 64, in_place);
        check_rope::<f16>(128, 40, 5, 5 * 128 + 24, in_place);
        check_rope::<f16>(64, 1, 1, 64, in_place);
    }
}

/// Writes rows of some heads to random slots, with padding rows among them.
fn write<T: HalfFloat>(shape: Shape, first_head: usize, heads: usize, rotated: bool) {
    let Shape { kv_heads, head_dim, block_size } = shape;
    let (blocks, rows, stride) = (5, 29, heads * head_dim + 16);
    let mut rng = StdRng::seed_from_u64(2);
    let table = Table::new(&mut rng, head_dim);
    let positions = positions(&mut rng, rows);
    let keys = Aligned::new(&random::<T>(&mut rng, rows * stride, BOUND));
    let values = Aligned::new(&random::<T>(&mut rng, rows * stride, BOUND));
    let mut slots: Vec<i64> = (0..(blocks * block_size) as i64).collect();
    slots.shuffle(&mut rng);
    slots.truncate(rows);
    slots[3] = -1;
    slots[rows - 1] = -7;
    let mut cache = Cache::<T>::new(shape, blocks);
    let (cos, sin) =
        if rotated { (table.cos.as_ptr(), table.sin.as_ptr()) } else { (ptr::null(), ptr::null()) };
    // SAFETY: the tensors have `rows` rows of `stride`; positions and slots are within table and cache.
    let status = unsafe {
        colm_kv_write(
            T::DTYPE,
            head_dim as i32,
            keys.as_ptr().cast(),
            stride as i64,
            values.as_ptr().cast(),
            stride as i64,
            rows as i32,
            first_head as i32,
            heads as i32,
            cos,
            sin,
            positions.as_ptr(),
            slots.as_ptr(),
            &cache.blocks(),
            ptr::null_mut(),
        )
    };
    assert_eq!(status, 0, "{}", status_text(status));
    for slot in 0..blocks * block_size {
        for head in 0..kv_heads {
            let at = cache.row(slot, head);
            let key = &cache.keys.as_slice()[at..at + head_dim];
            let value = &cache.values.as_slice()[at..at + head_dim];
            let row = slots.iter().position(|&written| written == slot as i64);
            match row.filter(|_| (first_head..first_head + heads).contains(&head)) {
                Some(row) => {
                    let from = row * stride + (head - first_head) * head_dim;
                    let new_key = &keys.as_slice()[from..from + head_dim];
                    if rotated {
                        assert_rounded(key, &table.rotated(new_key, positions[row] as usize));
                    } else {
                        assert_eq!(key, new_key);
                    }
                    assert_eq!(value, &values.as_slice()[from..from + head_dim]);
                }
                None => assert!(key.iter().chain(value).all(|x| x.wide().is_nan())),
            }
        }
    }
}

#[test]
fn rows_are_written_to_their_slots_only() {
    let shape = Shape { kv_heads: 3, head_dim: 64, block_size: 16 };
    write::<bf16>(shape, 0, 3, true);
    write::<f16>(shape, 1, 2, true);
    write::<f16>(Shape { head_dim: 128, block_size: 32, ..shape }, 2, 1, true);
    write::<bf16>(Shape { head_dim: 32, ..shape }, 0, 2, true);
    write::<bf16>(Shape { block_size: 48, ..shape }, 1, 1, false);
}

#[test]
fn heads_outside_the_cache_are_an_error() {
    let mut cache = Cache::<f16>::new(Shape { kv_heads: 2, head_dim: 64, block_size: 16 }, 1);
    let rows = Aligned::new(&[f16::ZERO; 128]);
    // SAFETY: the launcher returns an error before it reads anything.
    let status = unsafe {
        colm_kv_write(
            f16::DTYPE,
            64,
            rows.as_ptr().cast(),
            128,
            rows.as_ptr().cast(),
            128,
            1,
            1,
            2,
            ptr::null(),
            ptr::null(),
            ptr::null(),
            [0].as_ptr(),
            &cache.blocks(),
            ptr::null_mut(),
        )
    };
    assert!(status_text(status).contains("heads are not"), "{}", status_text(status));
}
