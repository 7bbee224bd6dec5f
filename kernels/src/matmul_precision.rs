//! How exactly the activations of linear layers are multiplied on the CPU.

use std::fmt;

/// The precision of activations in the products of linear layers on the CPU. Products are added in f32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MatmulPrecision {
    /// All 24 bits of an f32.
    #[default]
    F32,
    /// Activations are rounded to bf16, to nearest, ties to even. It has 8 bits, like weights in bf16. Faster on processors
    /// that multiply bf16 numbers: with AMX they multiply one bf16 number per activation instead of three.
    Bf16,
}

impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
