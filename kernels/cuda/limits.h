/* The limits of the CUDA kernels: the only place where they are defined.
 *
 * C++ includes this file. Rust reads it at compile time (src/limits.rs), and gpu_check/library.py
 * reads it at import. Both parse lines of the form `#define COLM_NAME NUMBER, ..`. */
#pragma once

/* Chains of a launch. Bounded by the 4 KiB of kernel parameters. */
#define COLM_MAX_CHAINS 16

/* Products of a linear launch: queries, keys and values of every chain. */
#define COLM_MAX_PRODUCTS 48

/* Up to this many rows of a chain, the linear layers use skinny tiles, those of decoding. The bits
 * of a row are the same for any number of rows up to this, and for any number above it. */
#define COLM_MAX_SKINNY_ROWS 32

/* Numbers of bf16 or f16 in a 16-byte access: widths are multiples of this. */
#define COLM_VECTOR 8

/* The supported numbers per head. */
#define COLM_HEAD_DIMS 32, 64, 128

/* The supported positions per KV block. All are multiples of 16, the unit in which attention looks
 * up the block table. */
#define COLM_BLOCK_SIZES 16, 32, 48, 64

/* Queries of an attention decode tile, and so of a partial result. */
#define COLM_DECODE_QUERIES 16
