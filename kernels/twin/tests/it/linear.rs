//! The linear layers against sums in f64, and the independence of a row's bits from other rows.

use std::ffi::c_void;
use std::ptr;

use colm_kernels_twin::limits::MAX_SKINNY_ROWS;
use colm_kernels_twin::linear::{
    colm_chain_linear, colm_chain_linear_decode, colm_chain_linear_wgmma, colm_sizeof_chain_linear,
    ChainLinear, LinearInput, LinearProduct,
};
use colm_kernels_twin::{Aligned, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::SeedableRng;

use crate::half_float::HalfFloat;
use crate::linear_case::{Launcher, LayerShape, LinearCase};
use crate::output::assert_close;

/// `counts[i]` rows for chain i, spread over those of the first chain.
fn rows(counts: &[usize]) -> Vec<Vec<usize>> {
    let all = counts[0];
    let spread = |&count: &usize| (0..count).map(|row| row * all / count.max(1)).collect();
    let mut rows: Vec<Vec<usize>> = counts.iter().map(spread).collect();
    // Nested: rows of the previous chain.
    for chain in 1..rows.len() {
        let previous = rows[chain - 1].clone();
        let count = rows[chain].len();
        rows[chain] = (0..count).map(|row| previous[row * previous.len() / count]).collect();
    }
    rows
}

fn check<T: HalfFloat>(
    rows: &[Vec<usize>],
    widths: &[usize],
    shapes: &[LayerShape],
    launcher: Launcher,
) {
    let case = LinearCase::<T>::new(&mut StdRng::seed_from_u64(1), rows, widths, shapes);
    for order in Order::ALL {
        order.set();
        let found = case.run(launcher);
        for (layer, chains) in found.iter().enumerate() {
            for (chain, found) in chains.iter().enumerate() {
                let counts: Vec<usize> = rows.iter().map(Vec::len).collect();
                let what =
                    format!("{counts:?} rows, widths {widths:?}, {shapes:?}, chain {}", chain + 1);
                assert_close(found, &case.expected(layer, chain), &what);
            }
        }
    }
}

fn check_both(rows: &[Vec<usize>], widths: &[usize], shapes: &[LayerShape], launcher: Launcher) {
    check::<bf16>(rows, widths, shapes, launcher);
    check::<f16>(rows, widths, shapes, launcher);
}

/// With mma.sync and with wgmma.
fn check_paths(rows: &[Vec<usize>], widths: &[usize], shapes: &[LayerShape]) {
    for launcher in [colm_chain_linear as Launcher, colm_chain_linear_wgmma] {
        check_both(rows, widths, shapes, launcher);
    }
}

#[test]
fn the_structures_are_those_of_the_header() {
    // SAFETY: no arguments.
    let size = unsafe { colm_sizeof_chain_linear() };
    assert_eq!(size as usize, size_of::<ChainLinear>());
}

#[test]
fn one_chain_is_a_matrix_product() {
    for (count, width, outputs) in
        [(33, 8, 8), (128, 64, 128), (129, 40, 136), (40, 520, 24), (300, 72, 200)]
    {
        check_paths(&rows(&[count]), &[width], &[LayerShape::plain(&[outputs])]);
    }
}

#[test]
fn every_chain_reads_the_earlier_chains() {
    let shape = LayerShape::plain(&[72, 8, 136, 40]);
    check_paths(&rows(&[140; 4]), &[40; 4], &[shape]);
    check_paths(&rows(&[65; 4]), &[128, 64, 32, 32], &[LayerShape::plain(&[64, 32, 16, 16])]);
    check_paths(&rows(&[65; 3]), &[128, 8, 72], &[LayerShape::plain(&[64, 128, 8])]);
}

#[test]
fn every_chain_has_its_own_rows() {
    let shape = LayerShape { residual: true, ..LayerShape::plain(&[72, 16, 24, 8]) };
    // Wide over wide, skinny over wide, one row, and none.
    for counts in [[200, 140, 40, 33], [150, 32, 32, 1], [300, 300, 7, 0]] {
        check_paths(&rows(&counts), &[64, 32, 16, 16], &[shape]);
    }
}

#[test]
fn biases_and_residuals_are_added() {
    for (bias, residual) in [(true, false), (false, true), (true, true)] {
        let shape = LayerShape { bias, residual, ..LayerShape::plain(&[144, 24]) };
        check_paths(&rows(&[70, 40]), &[32, 24], &[shape]);
        check_paths(&rows(&[5, 2]), &[32, 24], &[shape]);
    }
}

#[test]
fn gated_layers() {
    for (bias, residual) in [(false, false), (true, true)] {
        let shape = LayerShape { outputs: &[136, 64, 8], gated: true, bias, residual };
        check_paths(&rows(&[130, 40, 3]), &[64, 40, 8], &[shape]);
        check_paths(&rows(&[9, 3, 3]), &[64, 40, 8], &[shape]);
    }
}

/// As in CoLM-Air, where keys and values come from chain 1 alone.
#[test]
fn layers_that_read_the_same_x_go_together() {
    let shapes =
        [LayerShape::plain(&[64, 32]), LayerShape::plain(&[16]), LayerShape::plain(&[136])];
    check_paths(&rows(&[140, 34]), &[64, 32], &shapes);
    check_paths(&rows(&[3, 1]), &[64, 32], &shapes);
    let colm = [LayerShape { bias: true, ..LayerShape::plain(&[32, 16, 8]) }; 3];
    check_paths(&rows(&[40; 3]), &[16, 16, 8], &colm);
}

#[test]
fn few_rows_are_decoded() {
    // More inputs than the warps take in one turn, chains that end within a turn, more outputs than a tile.
    let widths = [1024, 200, 8, 560];
    for count in 1..=8 {
        let shapes = [LayerShape::plain(&[24, 16, 8, 40]), LayerShape::plain(&[8])];
        check_both(&rows(&[count; 4]), &widths, &shapes, colm_chain_linear_decode);
    }
    for counts in [[4, 2, 1, 1], [8, 8, 3, 0], [9, 4, 4, 1], [32, 17, 8, 2]] {
        let shape =
            LayerShape { outputs: &[24, 16, 8, 40], gated: true, bias: true, residual: true };
        check_both(&rows(&counts), &widths, &[shape], colm_chain_linear_decode);
    }
}

/// Rows have the same bits in a launch of their own as in a launch with others.
fn assert_rows_are_independent<T: HalfFloat>(
    counts: &[usize],
    shape: LayerShape,
    parts: &[Vec<usize>],
    launcher: Launcher,
) {
    let widths = [520, 40];
    let new =
        || LinearCase::<T>::new(&mut StdRng::seed_from_u64(2), &rows(counts), &widths, &[shape]);
    let all = new();
    let all_found = all.run(launcher).remove(0);
    for kept in parts {
        let mut part = new();
        part.keep(kept);
        let found = part.run(launcher).remove(0);
        for (chain, (found, all_found)) in found.iter().zip(&all_found).enumerate() {
            let outputs = shape.outputs[chain];
            for (row, found) in part.rows[chain].iter().zip(found.chunks(outputs)) {
                let at = all.rows[chain].binary_search(row).unwrap();
                let expected = &all_found[at * outputs..][..outputs];
                assert_eq!(found, expected, "chain {}, row {row}", chain + 1);
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_other_rows() {
    let thin: Vec<Vec<usize>> =
        vec![vec![0], vec![31], (3..11).collect(), (5..14).collect(), (0..31).collect()];
    let wide: Vec<Vec<usize>> = vec![(100..133).collect(), (0..40).collect(), (7..160).collect()];
    for gated in [false, true] {
        let shape = LayerShape { outputs: &[24, 40], gated, bias: true, residual: true };
        assert_rows_are_independent::<bf16>(
            &[MAX_SKINNY_ROWS, MAX_SKINNY_ROWS],
            shape,
            &thin,
            colm_chain_linear,
        );
        for launcher in [colm_chain_linear as Launcher, colm_chain_linear_wgmma] {
            assert_rows_are_independent::<f16>(&[160, 160], shape, &wide, launcher);
        }
        // The later chain is skinny, with and without a wide one in the launch.
        assert_rows_are_independent::<bf16>(
            &[160, 20],
            shape,
            &[(0..64).collect()],
            colm_chain_linear,
        );
    }
}

/// Values that a chain does not read do not affect it.
#[test]
fn a_chain_reads_only_its_own_rows_of_earlier_chains() {
    for counts in [[140, 40, 5], [20, 8, 3]] {
        let rows = rows(&counts);
        let shapes = [LayerShape::plain(&[16, 24, 8])];
        let new =
            || LinearCase::<f16>::new(&mut StdRng::seed_from_u64(3), &rows, &[40, 24, 8], &shapes);
        let all = new().run(colm_chain_linear).remove(0);
        // Chain 3, and chain 1 where chain 2 has no row.
        let mut other = new();
        other.x[2].as_mut_slice().fill(f16::NAN);
        for block in &mut other.layers[0][2..] {
            block.weight.as_mut_slice().fill(f16::NAN);
        }
        for (row, x) in rows[0].iter().zip(other.x[0].as_mut_slice().chunks_mut(40)) {
            if !rows[1].contains(row) {
                x.fill(f16::NAN);
            }
        }
        let found = other.run(colm_chain_linear).remove(0);
        assert_eq!(found[1], all[1]);
        assert!(found[2].iter().all(|x| x.is_nan()));
    }
}

fn status(launcher: Launcher, change: impl FnOnce(&mut ChainLinear)) -> i32 {
    let numbers = Aligned::new(&[f16::ONE; 40 * 16]);
    let mut y = Aligned::new(&[f16::ONE; 40 * 16]);
    let mut linear = ChainLinear::new(1);
    let x = numbers.as_ptr().cast();
    linear.push_input(LinearInput { x, rows: 40, width: 16, ..LinearInput::default() });
    linear.push_product(LinearProduct {
        weight: numbers.as_ptr().cast(),
        y: y.as_mut_ptr().cast::<c_void>(),
        outputs: 16,
        ..LinearProduct::default()
    });
    change(&mut linear);
    // SAFETY: a product of [40, 16] and [16, 16], or the launcher returns an error.
    unsafe { launcher(&linear, ptr::null_mut()) }
}

#[test]
fn unsupported_arguments_are_errors() {
    const DTYPE: i32 = -1;
    const SHAPE: i32 = -5;
    const ALIGNMENT: i32 = -6;
    const CHAIN_COUNT: i32 = -7;
    let linear = colm_chain_linear;
    assert_eq!(status(linear, |_| ()), 0);
    assert_eq!(status(linear, |l| l.products = 0), 0);
    assert_eq!(status(linear, |l| l.inputs[0].rows = 0), 0);
    assert_eq!(status(linear, |l| l.dtype = 2), DTYPE);
    assert_eq!(status(linear, |l| l.chains = 17), CHAIN_COUNT);
    assert_eq!(status(linear, |l| l.products = 49), SHAPE);
    assert_eq!(status(linear, |l| l.inputs[0].width = 12), SHAPE);
    assert_eq!(status(linear, |l| l.inputs[0].rows = -1), SHAPE);
    assert_eq!(status(linear, |l| l.product[0].outputs = 4), SHAPE);
    assert_eq!(status(linear, |l| l.product[0].chain = 1), SHAPE);
    assert_eq!(status(linear, |l| l.product[0].weight = ptr::null()), SHAPE);
    let later_chain = |rows| {
        move |l: &mut ChainLinear| {
            let x = l.inputs[0].x;
            l.push_input(LinearInput { x, rows, width: 16, ..LinearInput::default() });
        }
    };
    assert_eq!(status(linear, later_chain(41)), SHAPE, "more rows than the chain before");
    assert_eq!(status(linear, later_chain(39)), SHAPE, "fewer rows and no row map");
    let half_gated = |l: &mut ChainLinear| {
        l.push_product(LinearProduct { up: l.product[0].weight, ..l.product[0] });
    };
    assert_eq!(status(linear, half_gated), SHAPE);
    assert_eq!(status(linear, |l| l.inputs[0].x = l.inputs[0].x.wrapping_byte_add(2)), ALIGNMENT);
    assert_eq!(status(colm_chain_linear_decode, |_| ()), SHAPE, "too many rows to decode");
    assert_eq!(status(colm_chain_linear_decode, |l| l.inputs[0].rows = 8), 0);
}
