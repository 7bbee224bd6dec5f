//! `COLM_MAX_CPU_ISA`, an environment variable: the best instruction set of x86-64 that the kernels may use.

use std::ffi::OsStr;
use std::sync::OnceLock;
use std::{env, error, fmt};

const VARIABLE: &str = "COLM_MAX_CPU_ISA";

/// Instruction sets of x86-64, in ascending order: a processor that has one has all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum X86Isa {
    /// What every x86-64 processor has.
    Portable,
    Avx2,
    Avx512,
    Avx512Bf16,
    Amx,
}

impl X86Isa {
    const NAMES: [(&str, Self); 5] = [
        ("portable", Self::Portable),
        ("avx2", Self::Avx2),
        ("avx512", Self::Avx512),
        ("avx512bf16", Self::Avx512Bf16),
        ("amx", Self::Amx),
    ];

    fn parse(text: &OsStr) -> Result<Self, IsaLimitError> {
        let invalid = |expected: String| {
            Err(IsaLimitError { value: text.to_string_lossy().into_owned(), expected })
        };
        if cfg!(not(target_arch = "x86_64")) {
            return invalid("no value, because it is for processors of x86-64".into());
        }
        match Self::NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
            Some((_, limit)) => Ok(*limit),
            None => invalid(Self::NAMES.map(|(name, _)| name).join(", ")),
        }
    }
}

/// A value of `COLM_MAX_CPU_ISA` that is not the name of an instruction set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsaLimitError {
    value: String,
    expected: String,
}

impl fmt::Display for IsaLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{VARIABLE}` {:?}: expected {}", self.value, self.expected)
    }
}

impl error::Error for IsaLimitError {}

/// What the variable says when it is first read. It is read once, so that all results of a process have the same bits.
fn limit() -> &'static Result<X86Isa, IsaLimitError> {
    static LIMIT: OnceLock<Result<X86Isa, IsaLimitError>> = OnceLock::new();
    LIMIT.get_or_init(|| match env::var_os(VARIABLE) {
        Some(text) => X86Isa::parse(&text),
        None => Ok(X86Isa::Amx),
    })
}

/// Checks the environment variable `COLM_MAX_CPU_ISA`: the best instruction set of x86-64 that the kernels may use,
/// `portable`, `avx2`, `avx512`, `avx512bf16` or `amx` (the default). `avx512bf16` also turns AVX512-BF16 on where it
/// is slow. Processes with the same [`rounding`](crate::rounding) compute the same bits.
///
/// # Errors
/// If it has another value, or is set on another architecture. Weights cannot be packed then.
pub fn check_isa_limit() -> Result<(), IsaLimitError> {
    limit().clone().map(|_| ())
}

/// Whether the kernels may use an instruction set.
#[cfg(target_arch = "x86_64")]
pub(super) fn allows(isa: X86Isa) -> bool {
    limit().as_ref().is_ok_and(|limit| isa <= *limit)
}

/// Whether the variable names just this instruction set.
#[cfg(target_arch = "x86_64")]
pub(super) fn is_named(isa: X86Isa) -> bool {
    *limit() == Ok(isa)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_the_name_of_an_instruction_set() {
        assert_eq!(X86Isa::parse("AVX2".as_ref()), Ok(X86Isa::Avx2));
        let error = X86Isa::parse("sse2".as_ref()).unwrap_err().to_string();
        assert_eq!(
            error,
            "`COLM_MAX_CPU_ISA` \"sse2\": expected portable, avx2, avx512, avx512bf16, amx"
        );
    }
}
