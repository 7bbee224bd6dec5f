//! RMS norms against the formula in f64.

use std::ptr;

use colm_kernels_twin::linear::{
    colm_chain_rms_norm, colm_sizeof_chain_norm, ChainNorm, NormChain,
};
use colm_kernels_twin::{status_text, Aligned, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::SeedableRng;

use crate::half_float::{random, HalfFloat};
use crate::output::{assert_close, Output};

/// Large enough to affect the result.
const EPS: f32 = 0.125;

struct Chain<T> {
    rows: usize,
    width: usize,
    x: Aligned<T>,
    weight: Aligned<T>,
}

impl<T: HalfFloat> Chain<T> {
    fn new(rng: &mut StdRng, (rows, width): (usize, usize)) -> Self {
        let mut random = |count| Aligned::new(&random(rng, count, 1.0));
        Self { rows, width, x: random(rows * width), weight: random(width) }
    }

    fn expected(&self) -> Vec<f64> {
        let rows = self.x.as_slice().chunks(self.width).flat_map(|x| {
            let squares: f64 = x.iter().map(|x| x.wide() * x.wide()).sum();
            let scale = 1. / (squares / self.width as f64 + f64::from(EPS)).sqrt();
            x.iter().zip(self.weight.as_slice()).map(move |(x, w)| x.wide() * scale * w.wide())
        });
        rows.collect()
    }
}

/// The results of a launch, per chain.
fn run<T: HalfFloat>(chains: &[Chain<T>]) -> Vec<Vec<T>> {
    let mut norm = ChainNorm::new(T::DTYPE, EPS);
    let mut outputs: Vec<Output<T>> =
        chains.iter().map(|chain| Output::new(chain.rows * chain.width)).collect();
    for (chain, y) in chains.iter().zip(&mut outputs) {
        norm.push(NormChain {
            x: chain.x.as_ptr().cast(),
            weight: chain.weight.as_ptr().cast(),
            y: y.as_mut_ptr().cast(),
            rows: chain.rows as i32,
            width: chain.width as i32,
        });
    }
    // SAFETY: the tensors are [rows, width] and [width].
    let status = unsafe { colm_chain_rms_norm(&norm, ptr::null_mut()) };
    assert_eq!(status, 0, "{}", status_text(status));
    outputs.into_iter().map(Output::written).collect()
}

fn check<T: HalfFloat>() {
    let shapes: [&[(usize, usize)]; 3] = [
        &[(1, 8)],
        // Narrow and wide rows, a width in between, uneven counts, no rows.
        &[(70, 64), (3, 2048), (2, 1032), (0, 24), (1, 1024)],
        &[(5, 256), (5, 256), (1, 4104), (1, 40)],
    ];
    for shapes in shapes {
        let mut rng = StdRng::seed_from_u64(4);
        let chains: Vec<Chain<T>> =
            shapes.iter().map(|&shape| Chain::new(&mut rng, shape)).collect();
        for order in Order::ALL {
            order.set();
            for (y, chain) in run(&chains).iter().zip(&chains) {
                let what = format!("{} rows of {}", chain.rows, chain.width);
                assert_close(y, &chain.expected(), &what);
            }
        }
    }
}

#[test]
fn every_chain_is_normed_by_itself() {
    check::<bf16>();
    check::<f16>();
}

#[test]
fn a_row_does_not_depend_on_the_other_rows() {
    for width in [72, 2048] {
        let mut rng = StdRng::seed_from_u64(5);
        let all = Chain::<bf16>::new(&mut rng, (9, width));
        let ys = run(std::slice::from_ref(&all)).remove(0);
        for row in 0..9 {
            let x = Aligned::new(&all.x.as_slice()[row * width..][..width]);
            let alone = Chain { rows: 1, width, x, weight: all.weight.clone() };
            assert_eq!(run(&[alone]).remove(0), ys[row * width..][..width]);
        }
    }
}

#[test]
fn the_result_may_replace_x() {
    let mut rng = StdRng::seed_from_u64(6);
    let chain = Chain::<f16>::new(&mut rng, (6, 2048));
    let expected = run(std::slice::from_ref(&chain)).remove(0);
    let mut x = chain.x.clone();
    let mut norm = ChainNorm::new(f16::DTYPE, EPS);
    norm.push(NormChain {
        x: x.as_ptr().cast(),
        weight: chain.weight.as_ptr().cast(),
        y: x.as_mut_ptr().cast(),
        rows: 6,
        width: 2048,
    });
    // SAFETY: the tensors are [6, 2048] and [2048].
    assert_eq!(unsafe { colm_chain_rms_norm(&norm, ptr::null_mut()) }, 0);
    assert_eq!(x.as_slice(), expected);
}

#[test]
fn unsupported_arguments_are_errors() {
    // SAFETY: no arguments.
    assert_eq!(unsafe { colm_sizeof_chain_norm() } as usize, size_of::<ChainNorm>());
    let status = |chain: NormChain, dtype: i32| {
        let mut norm = ChainNorm::new(dtype, EPS);
        norm.push(chain);
        // SAFETY: there are no rows, or the launcher returns an error.
        unsafe { colm_chain_rms_norm(&norm, ptr::null_mut()) }
    };
    let x = Aligned::new(&[f16::ONE; 16]);
    let empty = NormChain { width: 8, ..NormChain::default() };
    assert_eq!(status(empty, 1), 0);
    assert_eq!(status(empty, 3), -1);
    assert_eq!(status(NormChain { width: 12, ..empty }, 1), -5);
    assert_eq!(status(NormChain { rows: -1, ..empty }, 1), -5);
    assert_eq!(status(NormChain { x: x.as_ptr().wrapping_add(1).cast(), ..empty }, 1), -6);
    let mut norm = ChainNorm::new(1, EPS);
    norm.chains = 17;
    // SAFETY: the launcher returns an error before it reads the chains.
    assert_eq!(unsafe { colm_chain_rms_norm(&norm, ptr::null_mut()) }, -7);
}
