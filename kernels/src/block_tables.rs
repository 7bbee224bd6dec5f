//! Where the sequences of a step have their keys and values in the paged KV cache.

use candle_core::{bail, DType, Result, Tensor};

/// Per sequence of the step, the KV blocks that hold its positions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTables {
    tables: Vec<Vec<u32>>,
}

impl BlockTables {
    /// `tables[s][b]` is the KV block of positions `b * block_size ..` of sequence s.
    pub fn new(tables: Vec<Vec<u32>>) -> Self {
        Self { tables }
    }

    /// From the host's form, u32 `[sequences, max_blocks]`. Short rows are padded with any block; no query may see the
    /// positions of the padding.
    ///
    /// # Errors
    /// For another rank or dtype.
    pub fn from_tensor(tables: &Tensor) -> Result<Self> {
        if tables.rank() != 2 || tables.dtype() != DType::U32 {
            bail!(
                "block tables must be [sequences, max_blocks] of u32, not {:?} of {:?}",
                tables.shape(),
                tables.dtype()
            );
        }
        Ok(Self::new(tables.to_vec2()?))
    }

    /// The number of sequences.
    pub fn sequence_count(&self) -> usize {
        self.tables.len()
    }

    /// The KV blocks of `sequence`, or `None` if there is no such sequence.
    pub fn blocks(&self, sequence: usize) -> Option<&[u32]> {
        self.tables.get(sequence).map(Vec::as_slice)
    }
}

/// The cache slot that each new row is written to: `block * block_size + offset`. A negative slot marks a padding row,
/// which is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    slots: Vec<i64>,
}

impl Slots {
    /// One slot per row.
    pub fn new(slots: Vec<i64>) -> Self {
        Self { slots }
    }

    /// From the host's form, i64 of any shape, in row-major order.
    ///
    /// # Errors
    /// For another dtype.
    pub fn from_tensor(slots: &Tensor) -> Result<Self> {
        if slots.dtype() != DType::I64 {
            bail!("slots must be i64, not {:?}", slots.dtype());
        }
        Ok(Self::new(slots.flatten_all()?.to_vec1()?))
    }

    /// The number of rows.
    pub fn row_count(&self) -> usize {
        self.slots.len()
    }

    /// The slots, row by row.
    pub fn as_slice(&self) -> &[i64] {
        &self.slots
    }
}
