//! The emulator itself: it detects errors in kernels, and its instructions compute what a GPU's do.

use colm_kernels_twin::probes::{
    twin_bad_barrier, twin_copy, twin_product, twin_round, twin_widen,
};
use colm_kernels_twin::{status_text, Aligned, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::half_float::{random, HalfFloat};
use crate::paged::BOUND;

const NUMBERS: usize = 128 * 8;

/// The number of correct results of a copy through shared memory with one step left out.
fn correct_copies(fault: i32) -> usize {
    let numbers: Vec<f16> = (0..NUMBERS).map(|at| f16::from_f32(at as f32)).collect();
    let from = Aligned::new(&numbers);
    let mut to = Aligned::new(&[f16::NAN; NUMBERS]);
    // SAFETY: both buffers hold 128 x 8 numbers.
    let status = unsafe { twin_copy(fault, from.as_ptr(), to.as_mut_ptr()) };
    assert_eq!(status, 0, "{}", status_text(status));
    to.as_slice().iter().zip(&numbers).filter(|(to, from)| to == from).count()
}

#[test]
fn a_missing_wait_commit_or_barrier_gives_wrong_numbers() {
    for order in Order::ALL {
        order.set();
        assert_eq!(correct_copies(0), NUMBERS);
        assert_eq!(correct_copies(1), 0, "no wait");
        assert_eq!(correct_copies(2), 0, "no commit");
        assert!(correct_copies(3) < NUMBERS, "no barrier");
        assert_eq!(correct_copies(4), NUMBERS - 8, "one thread's numbers not written");
    }
}

#[test]
fn a_barrier_that_cannot_complete_is_a_fault() {
    for order in Order::ALL {
        order.set();
        for (fault, reason) in [
            (
                0,
                "block (0, 0, 0): deadlock: 64 threads wait at __syncthreads, 0 for their warp, 64",
            ),
            (1, "diverged"),
            (2, "past the end of the 2048 bytes"),
            (3, "cp.async at 2048 of 2048 bytes"),
            (4, "ldmatrix at an address that is not a multiple of 16"),
        ] {
            // SAFETY: the kernel has no tensors.
            let status = unsafe { twin_bad_barrier(fault) };
            assert_ne!(status, 0, "fault {fault}");
            let text = status_text(status);
            assert!(text.contains(reason), "fault {fault}: {text}");
        }
    }
}

fn check_product<T: HalfFloat>() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut random = |count| random::<T>(&mut rng, count, BOUND);
    let (a, b) = (random(16 * 16), random(16 * 8));
    let b_transposed: Vec<T> = (0..8 * 16).map(|at| b[at % 16 * 8 + at / 16]).collect();
    for (transposed, b_given) in [(false, &b), (true, &b_transposed)] {
        let mut product = Aligned::new(&[f32::NAN; 16 * 8]);
        let (a_given, b_given) = (Aligned::new(&a), Aligned::new(b_given));
        // SAFETY: the buffers hold 16 x 16, 16 x 8 and 16 x 8 numbers.
        let status = unsafe {
            twin_product(
                T::DTYPE,
                transposed,
                a_given.as_ptr().cast(),
                b_given.as_ptr().cast(),
                product.as_mut_ptr(),
            )
        };
        assert_eq!(status, 0, "{}", status_text(status));
        for (at, &found) in product.as_slice().iter().enumerate() {
            let (row, column) = (at / 8, at % 8);
            let expected: f64 = (0..16)
                .map(|depth| a[row * 16 + depth].wide() * b[depth * 8 + column].wide())
                .sum();
            assert!((f64::from(found) - expected).abs() < 1e-5, "({row}, {column})");
        }
    }
}

#[test]
fn a_warp_multiplies_matrices() {
    check_product::<bf16>();
    check_product::<f16>();
}

fn check_format<T: HalfFloat>(from_bits: fn(u16) -> T) {
    for bits in 0..=u16::MAX {
        // SAFETY: takes plain numbers.
        let wide = unsafe { twin_widen(T::DTYPE, bits) };
        let expected = from_bits(bits).wide();
        assert!(f64::from(wide) == expected || wide.is_nan() && expected.is_nan(), "{bits:#x}");
    }
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..1_000_000 {
        // Numbers of any magnitude, and ties between adjacent numbers.
        let x = f32::from_bits(rng.random::<u32>() & [!0, !0xfff, !0x7fff][rng.random_range(0..3)]);
        // SAFETY: takes plain numbers.
        let bits = unsafe { twin_round(T::DTYPE, x) };
        assert!(
            bits == T::rounded(x).bits() || x.is_nan() && from_bits(bits).wide().is_nan(),
            "{x}"
        );
    }
}

#[test]
fn the_formats_round_to_nearest_even() {
    check_format(bf16::from_bits);
    check_format(f16::from_bits);
}
