//! Fixed-width arithmetic the compiler turns into vector instructions, with the instruction set
//! chosen at run time: a build for any x86-64 uses AVX2 where it finds it.

/// Numbers worked on side by side. Two AVX2 registers, four of SSE2 or NEON.
pub(crate) const LANES: usize = 16;

/// One number per lane.
pub(crate) type Lanes = [f32; LANES];

/// The sum over the lanes, always in the same order.
#[inline(always)]
pub(crate) fn sum(mut lanes: Lanes) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// How the processor multiplies and adds.
pub(crate) trait MulAdd {
    /// `a * b + c`.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

/// Rounded once. Only for processors with an instruction for it: elsewhere this is a library call
/// per number.
pub(crate) struct Fused;

impl MulAdd for Fused {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// Rounded after the product and after the sum.
pub(crate) struct Separate;

impl MulAdd for Separate {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// A computation to be compiled once per instruction set. `run` and all it calls must be
/// `#[inline(always)]`, or those parts keep the baseline's instructions.
pub(crate) trait Kernel {
    type Output;

    fn run<F: MulAdd>(self) -> Self::Output;
}

/// Runs `kernel` with the best instructions this processor has.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<Fused>()
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: `with_avx2` needs a processor with AVX2 and FMA, and this one has both.
            return unsafe { with_avx2(kernel) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    return kernel.run::<Fused>();
    #[cfg(not(target_arch = "aarch64"))]
    kernel.run::<Separate>()
}
