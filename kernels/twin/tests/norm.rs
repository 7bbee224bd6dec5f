//! The norms against the formula in f64.

mod numbers;

use std::ptr;

use colm_kernels_twin::linear::{
    colm_chain_rms_norm, colm_sizeof_chain_norm, ChainNorm, NormChain,
};
use colm_kernels_twin::{status_text, Aligned, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::SeedableRng;

use numbers::{assert_close, random, Half, Output};

/// Large enough to matter.
const EPS: f32 = 0.125;

struct Chain<T> {
    rows: usize,
    width: usize,
    x: Aligned<T>,
    residual: Option<Aligned<T>>,
    weight: Aligned<T>,
}

impl<T: Half> Chain<T> {
    fn new(rng: &mut StdRng, (rows, width): (usize, usize), residual: bool) -> Self {
        Self {
            rows,
            width,
            x: random(rng, rows * width),
            residual: residual.then(|| random(rng, rows * width)),
            weight: random(rng, width),
        }
    }

    /// h in the dtype, and y.
    fn expected(&self) -> (Vec<T>, Vec<f64>) {
        let sum = |at: usize| {
            let residual = self.residual.as_ref().map_or(0., |r| r.as_slice()[at].to_f64());
            T::from_f64(self.x.as_slice()[at].to_f64() + residual)
        };
        let h: Vec<T> = (0..self.rows * self.width).map(sum).collect();
        let rows = h.chunks(self.width).flat_map(|h| {
            let squares: f64 = h.iter().map(|h| h.to_f64() * h.to_f64()).sum();
            let scale = 1. / (squares / self.width as f64 + f64::from(EPS)).sqrt();
            h.iter().zip(self.weight.as_slice()).map(move |(h, w)| h.to_f64() * scale * w.to_f64())
        });
        let y = rows.collect();
        (h, y)
    }
}

/// Per chain h, if there is a residual, and y.
fn run<T: Half>(chains: &[Chain<T>]) -> Vec<(Option<Vec<T>>, Vec<T>)> {
    let mut norm = ChainNorm::new(T::DTYPE, EPS);
    let output = |chain: &Chain<T>| Output::<T>::new(chain.rows * chain.width);
    let mut outputs: Vec<(Option<Output<T>>, Output<T>)> = chains
        .iter()
        .map(|chain| (chain.residual.as_ref().map(|_| output(chain)), output(chain)))
        .collect();
    for (chain, (sum, y)) in chains.iter().zip(&mut outputs) {
        norm.push(NormChain {
            x: chain.x.as_ptr().cast(),
            residual: chain.residual.as_ref().map_or(ptr::null(), |r| r.as_ptr().cast()),
            weight: chain.weight.as_ptr().cast(),
            sum: sum.as_mut().map_or(ptr::null_mut(), |sum| sum.as_mut_ptr().cast()),
            y: y.as_mut_ptr().cast(),
            rows: chain.rows as i32,
            width: chain.width as i32,
        });
    }
    // SAFETY: the tensors are [rows, width] and [width].
    let status = unsafe { colm_chain_rms_norm(&norm, ptr::null_mut()) };
    assert_eq!(status, 0, "{}", status_text(status));
    outputs.into_iter().map(|(sum, y)| (sum.map(Output::written), y.written())).collect()
}

fn check<T: Half>() {
    let shapes: [&[(usize, usize)]; 3] = [
        &[(1, 8)],
        // Narrow and wide rows, a width between, ragged counts, none.
        &[(70, 64), (3, 2048), (2, 1032), (0, 24), (1, 1024)],
        &[(5, 256), (5, 256), (1, 4104), (1, 40)],
    ];
    for shapes in shapes {
        for residual in [false, true] {
            let mut rng = StdRng::seed_from_u64(4);
            let chains: Vec<Chain<T>> =
                shapes.iter().map(|&shape| Chain::new(&mut rng, shape, residual)).collect();
            for order in Order::ALL {
                order.set();
                for ((sum, y), chain) in run(&chains).into_iter().zip(&chains) {
                    let (expected_sum, expected) = chain.expected();
                    let what = format!("{} rows of {}", chain.rows, chain.width);
                    assert_close(&y, &expected, &what);
                    if let Some(sum) = sum {
                        assert_close_sums(&sum, &expected_sum);
                    }
                }
            }
        }
    }
}

/// Sums of two numbers in f32 and in f64 are rounded alike, but for ties.
fn assert_close_sums<T: Half>(found: &[T], expected: &[T]) {
    let expected: Vec<f64> = expected.iter().map(|h| h.to_f64()).collect();
    assert_close(found, &expected, "x + residual");
}

#[test]
fn every_chain_is_normed_by_itself() {
    check::<bf16>();
    check::<f16>();
}

#[test]
fn a_row_is_the_same_alone_and_in_any_company() {
    for width in [72, 2048] {
        let mut rng = StdRng::seed_from_u64(5);
        let all = Chain::<bf16>::new(&mut rng, (9, width), true);
        let (sums, ys) = run(std::slice::from_ref(&all)).remove(0);
        let sums = sums.unwrap();
        for row in 0..9 {
            let cut = |from: &Aligned<bf16>| Aligned::new(&from.as_slice()[row * width..][..width]);
            let alone = Chain {
                rows: 1,
                width,
                x: cut(&all.x),
                residual: all.residual.as_ref().map(cut),
                weight: all.weight.clone(),
            };
            let (sum, y) = run(&[alone]).remove(0);
            assert_eq!(sum.unwrap(), sums[row * width..][..width]);
            assert_eq!(y, ys[row * width..][..width]);
        }
    }
}

/// Not of the sum before rounding: adding first and then norming gives the same bits.
#[test]
fn the_norm_is_that_of_the_rounded_sum() {
    let mut rng = StdRng::seed_from_u64(7);
    let chain = Chain::<bf16>::new(&mut rng, (5, 264), true);
    let (sum, y) = run(std::slice::from_ref(&chain)).remove(0);
    let x = Aligned::new(&sum.unwrap());
    let (_, expected) = run(&[Chain { x, residual: None, ..chain }]).remove(0);
    assert_eq!(y, expected);
}

#[test]
fn the_sum_may_replace_the_residual() {
    let mut rng = StdRng::seed_from_u64(6);
    let chain = Chain::<f16>::new(&mut rng, (6, 2048), true);
    let expected = run(std::slice::from_ref(&chain)).remove(0);
    let mut residual = chain.residual.clone().unwrap();
    let mut x = chain.x.clone();
    let mut norm = ChainNorm::new(f16::DTYPE, EPS);
    norm.push(NormChain {
        x: x.as_ptr().cast(),
        residual: residual.as_ptr().cast(),
        weight: chain.weight.as_ptr().cast(),
        sum: residual.as_mut_ptr().cast(),
        y: x.as_mut_ptr().cast(),
        rows: 6,
        width: 2048,
    });
    // SAFETY: the tensors are [6, 2048] and [2048].
    assert_eq!(unsafe { colm_chain_rms_norm(&norm, ptr::null_mut()) }, 0);
    assert_eq!(residual.as_slice(), expected.0.unwrap());
    assert_eq!(x.as_slice(), expected.1);
}

#[test]
fn what_the_kernel_cannot_take_is_refused() {
    // SAFETY: no arguments.
    assert_eq!(unsafe { colm_sizeof_chain_norm() } as usize, size_of::<ChainNorm>());
    let status = |chain: NormChain, dtype: i32| {
        let mut norm = ChainNorm::new(dtype, EPS);
        norm.push(chain);
        // SAFETY: no rows, or refused.
        unsafe { colm_chain_rms_norm(&norm, ptr::null_mut()) }
    };
    let x = Aligned::new(&[f16::ONE; 16]);
    let empty = NormChain { width: 8, ..NormChain::default() };
    assert_eq!(status(empty, 1), 0);
    assert_eq!(status(empty, 3), -1);
    assert_eq!(status(NormChain { width: 12, ..empty }, 1), -5);
    assert_eq!(status(NormChain { rows: -1, ..empty }, 1), -5);
    assert_eq!(status(NormChain { residual: x.as_ptr().cast(), ..empty }, 1), -5, "no sum");
    assert_eq!(status(NormChain { x: x.as_ptr().wrapping_add(1).cast(), ..empty }, 1), -6);
}
