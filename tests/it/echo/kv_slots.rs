//! The KV cache of the echo model: which slots a step uses, and their contents.

use candle_core::{bail, Device, IndexOp, Result, Tensor};
use mistralrs_core::ext::PagedAttentionInputMetadata;

/// The contents of a slot: the key and the value of one token.
pub type Kv = (f32, f32);

/// Block tables and slots of a forward pass on the CPU.
pub struct Paging {
    /// Per sequence, the slot of each row; negative for padding.
    pub slots: Vec<Vec<i64>>,
    /// Per sequence, its blocks.
    pub tables: Vec<Vec<u32>>,
}

impl Paging {
    /// The paging of a step.
    pub fn of(metadata: &PagedAttentionInputMetadata) -> Result<Self> {
        let here = Device::Cpu.location();
        let Some(tables) = metadata.block_tables.as_ref().and_then(|tables| tables.get(&here))
        else {
            bail!("no block tables");
        };
        let slots = metadata.slot_mappings[&here].flatten_all()?;
        Ok(Self {
            slots: slots.reshape((tables.dim(0)?, ()))?.to_vec2()?,
            tables: tables.to_vec2()?,
        })
    }
}

/// The KV blocks of the only layer. The model uses the first element of each key and value.
pub struct Blocks<'a> {
    /// `[blocks, 1, head_dim / 4, block_size, 4]`
    pub keys: &'a Tensor,
    /// `[blocks, 1, head_dim, block_size]`
    pub values: &'a Tensor,
}

impl Blocks<'_> {
    pub fn write(&self, slot: usize, (key, value): Kv) -> Result<()> {
        let (_, _, head_dim, block_size) = self.values.dims4()?;
        let block = slot / block_size * head_dim * block_size;
        let offset = slot % block_size;
        let put = |blocks: &Tensor, at, number| {
            blocks.flatten_all()?.slice_set(&Tensor::new(&[number], &Device::Cpu)?, 0, at)
        };
        put(self.keys, block + offset * 4, key)?;
        put(self.values, block + offset, value)
    }

    /// Per block, the KV of its slots.
    pub fn read(&self) -> Result<Vec<Vec<Kv>>> {
        let keys = self.keys.i((.., 0, 0, .., 0))?.to_vec2::<f32>()?;
        let values = self.values.i((.., 0, 0, ..))?.to_vec2::<f32>()?;
        let block = |(keys, values): (Vec<f32>, Vec<f32>)| keys.into_iter().zip(values).collect();
        Ok(keys.into_iter().zip(values).map(block).collect())
    }
}
