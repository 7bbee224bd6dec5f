//! AMX: products of bf16 tiles, on some Intel processors.
//!
//! A tile register has up to [`TILE_ROWS`] rows of 64 bytes. `tdpbf16ps` adds the product of `[rows, TILE_DEPTH]` and
//! `[TILE_DEPTH, 16]` numbers of bf16 to `[rows, 16]` numbers of f32. Each of its sums depends on its own row and column
//! only, not on how many rows the tile has.
//!
//! Rust has no stable intrinsics for it, so this is assembly.

use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::isa_limit::{self, X86Isa};
use crate::cpu::gemm::split_lhs::{TileRow, SPLIT_TILE_ROWS, TILE_ROWS};
use crate::cpu::gemm::{Bf16Pairs, NrVector, RowTileKernel, TILE_PAIRS};

/// Whether the processor has AMX for bf16 and the system lets this process use it. AVX-512 with BW, which every such
/// processor has, is required too.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let has_avx512 = super::avx512::is_available_with_bw();
        isa_limit::allows(X86Isa::Amx) && has_avx512 && has_bf16_tiles() && permitted()
    })
}

/// Whether CPUID reports AMX-TILE and AMX-BF16.
fn has_bf16_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const FEATURES: u32 = AMX_BF16 | AMX_TILE;
    // SAFETY: every x86-64 has CPUID. The functions are safe in newer versions of Rust.
    #[allow(unused_unsafe)]
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES
    }
}

/// Asks the system for the tile registers, which a process may not use before.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call changes nothing but the permission. A kernel that does not know it returns an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The memory operand of `ldtilecfg`.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row, per register.
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Prefetches some of the 32 cache lines of a depth tile of the rhs.
macro_rules! prefetch {
    ($($line:literal)*) => {
        concat!($("prefetcht0 [{next} + 64 * ", $line, "]\n"),*)
    };
}

/// Loads an accumulator.
macro_rules! load {
    ($register:literal, $offset:literal) => {
        concat!("tileloadd ", $register, ", [{acc} + {two_lines} + ", $offset, "]")
    };
}

/// Stores an accumulator.
macro_rules! store {
    ($register:literal, $offset:literal) => {
        concat!("tilestored [{acc} + {two_lines} + ", $offset, "], ", $register)
    };
}

/// The product of a row tile: `$begin` fills the accumulators, `$first` and `$others` add the products of the terms of a
/// depth tile, and `$end` stores the accumulators.
macro_rules! product {
    (
        $rows:expr, $lhs:expr, $rhs:expr, $next:expr, $acc:expr, $depth_tiles:expr,
        [$($begin:expr),*], [$first:expr $(, $others:expr)*], [$($end:expr),*]
    ) => {
        asm!(
            $($begin,)*
            "2:",
            "tileloadd tmm6, [{rhs} + {two_lines}]",
            "tileloadd tmm7, [{rhs} + {two_lines} + 64]",
            prefetch!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
            $first,
            "add {lhs}, {term}",
            prefetch!(16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31),
            $(
                $others,
                "add {lhs}, {term}",
            )*
            "add {rhs}, 2048",
            "add {next}, 2048",
            "dec {depth_tiles}",
            "jnz 2b",
            $($end,)*
            lhs = inout(reg) $lhs => _,
            rhs = inout(reg) $rhs => _,
            next = inout(reg) $next => _,
            depth_tiles = inout(reg) $depth_tiles => _,
            acc = in(reg) $acc,
            line = in(reg) 64usize,
            two_lines = in(reg) 128usize,
            term = in(reg) $rows * 64,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// Adds the products of a term with more than [`TILE_ROWS`] rows.
macro_rules! two_register_term {
    ($term:literal) => {
        "tileloadd tmm4, [{lhs} + {line}]
         tileloadd tmm5, [{lhs} + {line} + 1024]
         tdpbf16ps tmm0, tmm4, tmm6
         tdpbf16ps tmm1, tmm4, tmm7
         tdpbf16ps tmm2, tmm5, tmm6
         tdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// [`product`] of more than [`TILE_ROWS`] rows, with a literal per term: their values are not used. The offsets are those of
/// the second half of the rows and of the columns.
macro_rules! two_registers {
    ([$($term:literal)*] $($operand:expr),*) => {
        product!(
            $($operand,)*
            [load!("tmm0", 0), load!("tmm1", 64), load!("tmm2", 2048), load!("tmm3", 2112)],
            [$(two_register_term!($term)),*],
            [store!("tmm0", 0), store!("tmm1", 64), store!("tmm2", 2048), store!("tmm3", 2112)]
        )
    };
}

/// Adds the products of a term with up to [`TILE_ROWS`] rows.
macro_rules! one_register_term {
    ($term:literal) => {
        "tileloadd tmm4, [{lhs} + {line}]
         tdpbf16ps tmm0, tmm4, tmm6
         tdpbf16ps tmm1, tmm4, tmm7"
    };
}

/// [`product`] of up to [`TILE_ROWS`] rows, with a literal per term.
macro_rules! one_register {
    ([$($term:literal)*] $($operand:expr),*) => {
        product!(
            $($operand,)*
            [load!("tmm0", 0), load!("tmm1", 64)],
            [$(one_register_term!($term)),*],
            [store!("tmm0", 0), store!("tmm1", 64)]
        )
    };
}

/// Adds the product of a term of one depth tile.
macro_rules! single_product_term {
    ($acc:literal, $lhs_register:literal, $term:literal) => {
        concat!(
            "tileloadd ",
            $lhs_register,
            ", [{lhs} + {line}]\n",
            "tdpbf16ps ",
            $acc,
            ", ",
            $lhs_register,
            ", tmm6\n",
            "add {lhs}, {term}",
        )
    };
}

/// The product of one depth tile: of the rows of `$lhs_register` with 16 columns, in `$acc`, with a literal per
/// term.
macro_rules! single_product {
    ($acc:literal, $lhs_register:literal, [$($term:literal)*] $rows:expr, $lhs:expr, $rhs:expr) => {
        asm!(
            concat!("tilezero ", $acc),
            "tileloadd tmm6, [{rhs} + {line}]",
            $(single_product_term!($acc, $lhs_register, $term),)*
            lhs = inout(reg) $lhs => _,
            rhs = in(reg) $rhs,
            line = in(reg) 64usize,
            term = in(reg) $rows * 64,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        )
    };
}

/// Stores a register of products.
macro_rules! store_product {
    ($acc:literal, $to:expr) => {
        asm!(
            concat!("tilestored [{to} + {line}], ", $acc),
            to = in(reg) $to,
            line = in(reg) 64usize,
            options(nostack, preserves_flags),
        )
    };
}

/// A tile of the rhs in a register: 16 columns at [`TILE_PAIRS`] pairs of depths.
pub(crate) type RhsTile = [TileRow; TILE_PAIRS];

/// A register of products: one row of 16 columns per row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct ProductTile(pub(crate) [[f32; 16]; TILE_ROWS]);

impl ProductTile {
    pub(crate) const ZERO: Self = Self([[0.0; 16]; TILE_ROWS]);
}

/// The tile registers of this thread, configured for row tiles of some height: accumulators in 0 to 3, the lhs in 4 and
/// 5, the rhs in 6 and 7. Registers 2, 3 and 5 are of the rows after the first [`TILE_ROWS`].
pub(crate) struct Tiles {
    rows: usize,
    /// The configuration is the thread's.
    not_send: PhantomData<*const ()>,
}

impl Tiles {
    /// # Safety
    /// [`is_available`] must be true. A thread must not have two `Tiles` at a time.
    pub(crate) unsafe fn new() -> Self {
        Self { rows: 0, not_send: PhantomData }
    }

    /// Configures the registers for a row tile of `rows` rows, if they are not.
    ///
    /// # Panics
    /// If `rows` is 0 or more than [`SPLIT_TILE_ROWS`].
    #[inline(always)]
    pub(crate) fn of_rows(&mut self, rows: usize) -> &Self {
        assert!((1..=SPLIT_TILE_ROWS).contains(&rows), "a row tile of {rows} rows");
        if self.rows != rows {
            let first = rows.min(TILE_ROWS) as u8;
            // A register must have a row, even if it is not used.
            let second = rows.saturating_sub(TILE_ROWS).max(1) as u8;
            let rhs = TILE_ROWS as u8;
            let mut config = TileConfig {
                palette: 1,
                start_row: 0,
                reserved: [0; 14],
                row_bytes: [0; 16],
                rows: [0; 16],
            };
            config.row_bytes[..8].fill(64);
            config.rows[..8]
                .copy_from_slice(&[first, first, second, second, first, second, rhs, rhs]);
            // SAFETY: `new` requires AMX, and the configuration is one of palette 1.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags, readonly));
            }
            self.rows = rows;
        }
        self
    }

    /// Multiplies one depth tile with the rows of one register, the first or the second of a row tile. The product stays in
    /// a register until [`Self::store_product`], so that the processor can do other work while AMX multiplies.
    ///
    /// # Safety
    /// `lhs` must start with these rows: `TERMS` times the rows of the row tile must follow, except those before `lhs` in
    /// the row tile. A row tile of up to [`TILE_ROWS`] rows has no second register.
    #[inline(always)]
    pub(crate) unsafe fn begin_product<const SECOND: bool, const TERMS: usize>(
        &self,
        lhs: *const TileRow,
        rhs: &RhsTile,
    ) {
        const { assert!(TERMS == 1 || TERMS == 3) };
        let rhs = rhs.as_ptr();
        // SAFETY: `new` requires AMX. The code reads the rows of all terms, which the caller guarantees, and a tile of `rhs`.
        unsafe {
            match (SECOND, TERMS) {
                (false, 1) => single_product!("tmm0", "tmm4", [1] self.rows, lhs, rhs),
                (true, 1) => single_product!("tmm2", "tmm5", [1] self.rows, lhs, rhs),
                (false, _) => single_product!("tmm0", "tmm4", [1 2 3] self.rows, lhs, rhs),
                (true, _) => single_product!("tmm2", "tmm5", [1 2 3] self.rows, lhs, rhs),
            }
        }
    }

    /// Stores the last product of the first or second register.
    #[inline(always)]
    pub(crate) fn store_product<const SECOND: bool>(&self, to: &mut ProductTile) {
        // SAFETY: `new` requires AMX, and `to` has at least as many rows as the register. Only `Tiles` use these registers.
        unsafe {
            if SECOND {
                store_product!("tmm2", to);
            } else {
                store_product!("tmm0", to);
            }
        }
    }
}

impl RowTileKernel for Tiles {
    #[inline(always)]
    fn add_product<const TERMS: usize>(
        &mut self,
        lhs: &[TileRow],
        rhs: &[Bf16Pairs],
        next: *const Bf16Pairs,
        acc: &mut [NrVector],
    ) {
        let rows = acc.len();
        self.of_rows(rows);
        let depth_tiles = rhs.len() / TILE_PAIRS;
        assert!(rhs.len().is_multiple_of(TILE_PAIRS) && lhs.len() >= depth_tiles * TERMS * rows);
        if depth_tiles == 0 {
            return;
        }
        macro_rules! run {
            ($kernel:ident, $terms:tt) => {
                $kernel!($terms rows, lhs.as_ptr(), rhs.as_ptr(), next, acc.as_mut_ptr(), depth_tiles)
            };
        }
        const { assert!(TERMS == 1 || TERMS == 3) };
        // SAFETY: `new` requires AMX. The lengths are checked: per depth tile the code reads `TILE_PAIRS` pairs and the
        // rows of all terms, and it reads and writes the rows of `acc`.
        unsafe {
            match (rows > TILE_ROWS, TERMS) {
                (false, 1) => run!(one_register, [1]),
                (true, 1) => run!(two_registers, [1]),
                (false, _) => run!(one_register, [1 2 3]),
                (true, _) => run!(two_registers, [1 2 3]),
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        if self.rows > 0 {
            // SAFETY: `new` requires AMX. Afterwards the system need not save the registers.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }
}
