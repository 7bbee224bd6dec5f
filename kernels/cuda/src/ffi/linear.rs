//! The launchers of the linear layers and norms: the structures of `chain_linear.h`, field by field.

use std::ffi::{c_int, c_void};
use std::ptr;

use crate::limits::{MAX_CHAINS, MAX_PRODUCTS};

/// x of one chain.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LinearInput {
    /// `[rows, width]`
    pub x: *const c_void,
    /// `[chain, rows]`: the index of each row of this chain among the rows of every earlier chain. Null if all have the
    /// same rows.
    pub row_map: *const i32,
    /// The number of rows of the chain.
    pub rows: i32,
    /// in_i
    pub width: i32,
}

/// One chain of one layer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LinearProduct {
    /// `[outputs, in_<=chain]`
    pub weight: *const c_void,
    /// Of the shape of `weight`; null if the layer is not gated.
    pub up: *const c_void,
    /// `[outputs]` or null
    pub bias: *const c_void,
    /// `[outputs]` or null
    pub up_bias: *const c_void,
    /// `[rows of the chain, outputs]` or null
    pub residual: *const c_void,
    /// `[rows of the chain, outputs]`
    pub y: *mut c_void,
    /// The chain, counted from 0.
    pub chain: i32,
    /// out_i
    pub outputs: i32,
}

/// All chains of one layer, or of several that read the same x.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ChainLinear {
    /// 0 is bf16, 1 is f16.
    pub dtype: i32,
    /// The number of `inputs`.
    pub chains: i32,
    /// The number of products.
    pub products: i32,
    /// Padding; not read.
    pub reserved: i32,
    /// One per chain.
    pub inputs: [LinearInput; MAX_CHAINS],
    /// One per layer and chain, in any order.
    pub product: [LinearProduct; MAX_PRODUCTS],
}

/// One chain of a norm.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NormChain {
    /// `[rows, width]`
    pub x: *const c_void,
    /// `[width]`
    pub weight: *const c_void,
    /// `[rows, width]`
    pub y: *mut c_void,
    /// The number of rows of the chain.
    pub rows: i32,
    /// hidden_i
    pub width: i32,
}

/// The norms of all chains of a step.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ChainNorm {
    /// 0 is bf16, 1 is f16.
    pub dtype: i32,
    /// The number of chains.
    pub chains: i32,
    /// Added to the mean of the squares.
    pub eps: f32,
    /// Padding; not read.
    pub reserved: i32,
    /// One per chain.
    pub chain: [NormChain; MAX_CHAINS],
}

impl Default for LinearInput {
    fn default() -> Self {
        Self { x: ptr::null(), row_map: ptr::null(), rows: 0, width: 0 }
    }
}

impl Default for LinearProduct {
    fn default() -> Self {
        Self {
            weight: ptr::null(),
            up: ptr::null(),
            bias: ptr::null(),
            up_bias: ptr::null(),
            residual: ptr::null(),
            y: ptr::null_mut(),
            chain: 0,
            outputs: 0,
        }
    }
}

impl ChainLinear {
    /// A launch of no chains and no products.
    pub fn new(dtype: i32) -> Self {
        Self {
            dtype,
            chains: 0,
            products: 0,
            reserved: 0,
            inputs: [LinearInput::default(); MAX_CHAINS],
            product: [LinearProduct::default(); MAX_PRODUCTS],
        }
    }

    /// Adds the next chain.
    pub fn push_input(&mut self, input: LinearInput) {
        self.inputs[self.chains as usize] = input;
        self.chains += 1;
    }

    /// Adds a product.
    pub fn push_product(&mut self, product: LinearProduct) {
        self.product[self.products as usize] = product;
        self.products += 1;
    }
}

impl Default for NormChain {
    fn default() -> Self {
        Self { x: ptr::null(), weight: ptr::null(), y: ptr::null_mut(), rows: 0, width: 0 }
    }
}

impl ChainNorm {
    /// A launch of no chains.
    pub fn new(dtype: i32, eps: f32) -> Self {
        let chain = [NormChain::default(); MAX_CHAINS];
        Self { dtype, chains: 0, eps, reserved: 0, chain }
    }

    /// Adds the next chain.
    pub fn push(&mut self, chain: NormChain) {
        self.chain[self.chains as usize] = chain;
        self.chains += 1;
    }
}

extern "C" {
    /// The products of any number of rows.
    pub fn colm_chain_linear(linear: *const ChainLinear, stream: *mut c_void) -> c_int;
    /// The same with wgmma on Hopper.
    pub fn colm_chain_linear_wgmma(linear: *const ChainLinear, stream: *mut c_void) -> c_int;
    /// The products of at most [`MAX_SKINNY_ROWS`](crate::limits::MAX_SKINNY_ROWS) rows.
    pub fn colm_chain_linear_decode(linear: *const ChainLinear, stream: *mut c_void) -> c_int;
    /// The norms of all chains.
    pub fn colm_chain_rms_norm(norm: *const ChainNorm, stream: *mut c_void) -> c_int;
    /// `sizeof` of the C structure.
    pub fn colm_sizeof_chain_linear() -> i32;
    /// `sizeof` of the C structure.
    pub fn colm_sizeof_chain_norm() -> i32;
}
