//! The chains that a model can get.

use std::fmt;

use crate::config::{Chains, MAX_SIZE};

/// Which chains a model gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The relative sizes of all chains, beginning with those of the base. Every width grows in proportion.
    Ratios(Chains),
    /// One more chain per entry, of these widths.
    Widths(Vec<NewChain>),
}

/// The widths of a new chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewChain {
    /// Its share of `hidden_size`.
    pub hidden: usize,
    /// Its query heads.
    pub heads: usize,
    /// Its key/value heads. None: in Air 0, in CoLM as many query heads per key/value head as in the base.
    pub kv_heads: Option<usize>,
    /// Its share of `intermediate_size`.
    pub intermediate: usize,
}

impl NewChain {
    /// The most that a width of a chain can be, which is the most that a width of a model can be.
    pub const MAX_WIDTH: usize = MAX_SIZE;
}

impl fmt::Display for NewChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hidden, heads, intermediate, .. } = self;
        write!(f, "hidden={hidden},heads={heads},intermediate={intermediate}")?;
        self.kv_heads.map_or(Ok(()), |kv_heads| write!(f, ",kv-heads={kv_heads}"))
    }
}
