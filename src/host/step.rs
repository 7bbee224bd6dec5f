//! From what the engine hands to a forward pass to a [`Step`].

use candle_core::{bail, DType, Device, Result, Tensor};
use colm_checkpoint::Split;
use colm_kernels::{BlockTables, KvBlocks, Slots};
use mistralrs_core::ext::PagedAttentionInputMetadata;

use super::speculation::Row;
use crate::model::{ActiveRows, Sequence, Step};

/// The engine's batch, one padded row of tokens per sequence.
pub struct Batch<'a> {
    /// `[sequences, longest]` u32, padded on the right.
    pub input_ids: &'a Tensor,
    /// Per sequence, the position of its first token.
    pub seqlen_offsets: &'a [usize],
    /// Per sequence, (start, length) of the tokens whose logits are asked for, in its padded row.
    pub context_lens: &'a [(usize, usize)],
    /// Per sequence, its chain count.
    pub chains: &'a [usize],
    /// Per sequence, whether the logits of all its rows are asked for, whatever the engine says.
    pub all_rows: &'a [bool],
}

/// Where a step's keys and values stand, as the engine or a scratch cache says.
pub struct Paging {
    /// `[sequences, longest]`: a slot per token, negative where there is none.
    slots: Vec<Vec<i64>>,
    tables: BlockTables,
}

impl Paging {
    /// As the engine's block manager says.
    pub fn of_engine(metadata: &PagedAttentionInputMetadata, device: &Device) -> Result<Self> {
        let tables = metadata.block_tables.as_ref();
        let Some(tables) = tables.and_then(|tables| tables.get(&device.location())) else {
            bail!("the engine gave no block tables for {:?}", device.location());
        };
        let Some(slots) = metadata.slot_mappings.get(&device.location()) else {
            bail!("the engine gave no slots for {:?}", device.location());
        };
        let sequences = tables.dim(0)?;
        let slots = slots.flatten_all()?.reshape((sequences, ()))?.to_vec2()?;
        Ok(Self { slots, tables: BlockTables::from_tensor(tables)? })
    }

    /// Blocks of its own for a batch outside the engine, such as calibration for quantization.
    pub fn scratch(input_ids: &Tensor, block_size: usize) -> Result<Self> {
        let (sequences, longest) = input_ids.dims2()?;
        let blocks = longest.div_ceil(block_size);
        let first = |sequence: usize| sequence * blocks * block_size;
        let slot = |sequence| (0..longest).map(move |at| (first(sequence) + at) as i64).collect();
        let table = |sequence| (0..blocks).map(|b| (sequence * blocks + b) as u32).collect();
        Ok(Self {
            slots: (0..sequences).map(slot).collect(),
            tables: BlockTables::new((0..sequences).map(table).collect()),
        })
    }
}

/// The step of `batch`: padding is gone, rows stand sequence by sequence.
pub fn step(batch: &Batch<'_>, paging: Paging, kv_heads: &Split) -> Result<Step> {
    let ids = batch.input_ids.to_vec2::<u32>()?;
    let counts = [batch.seqlen_offsets.len(), batch.context_lens.len(), batch.chains.len()];
    if counts
        .iter()
        .chain([&batch.all_rows.len(), &paging.slots.len()])
        .any(|&count| count != ids.len())
    {
        bail!("the engine's batch of {} sequences comes with {counts:?} entries", ids.len());
    }
    let (mut sequences, mut tokens, mut slots) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (ids, written)) in ids.iter().zip(&paging.slots).enumerate() {
        // A row is padding exactly if it has no slot; padding stands at the end.
        let rows = written.iter().take_while(|&&slot| slot >= 0).count().min(ids.len());
        // The engine counts from the end of its padded rows: "the last one" of a short sequence is there.
        let (start, length) = batch.context_lens[index];
        let padding = ids.len() - rows;
        let logits = match batch.all_rows[index] {
            true => 0..rows,
            false => start.saturating_sub(padding)..(start + length).saturating_sub(padding),
        };
        tokens.extend_from_slice(&ids[..rows]);
        slots.extend_from_slice(&written[..rows]);
        sequences.push(Sequence {
            first_position: batch.seqlen_offsets[index],
            rows,
            logits,
            chains: batch.chains[index],
        });
    }
    let active = ActiveRows::new(sequences, kv_heads)?;
    Step::new(tokens, &Slots::new(slots), paging.tables, active)
}

/// The rows of `batch`, if its sequences, whose ids are `ids`, have one each.
pub fn decoded_rows(batch: &Batch<'_>, paging: &Paging, ids: &[usize]) -> Result<Option<Vec<Row>>> {
    let tokens = batch.input_ids.to_vec2::<u32>()?;
    if tokens.iter().any(|tokens| tokens.len() != 1) || ids.len() != tokens.len() {
        return Ok(None);
    }
    let rows = tokens.iter().zip(ids).enumerate().map(|(index, (tokens, &sequence))| Row {
        sequence,
        token: tokens[0],
        position: batch.seqlen_offsets[index],
        chains: batch.chains[index],
        blocks: paging.tables.blocks(index).unwrap_or_default().to_vec(),
    });
    Ok(Some(rows.collect()))
}

/// `[sequences, most rows asked of one, vocab]` from the rows of `logits`, in the order of the step;
/// rows a sequence has not asked for are zero, at the end.
pub fn padded(logits: &Tensor, active: &ActiveRows) -> Result<Tensor> {
    let asked: Vec<usize> =
        active.sequences().iter().map(|sequence| sequence.logits.len()).collect();
    let most = asked.iter().copied().max().unwrap_or(0);
    if asked.iter().all(|&rows| rows == most) {
        return logits.reshape((asked.len(), most, ()));
    }
    let mut first = 0;
    let mut sequences = Vec::with_capacity(asked.len());
    for rows in asked {
        sequences.push(logits.narrow(0, first, rows)?.pad_with_zeros(0, 0, most - rows)?);
        first += rows;
    }
    Tensor::stack(&sequences, 0)
}

/// Fresh blocks, one pair of tensors per layer, in the engine's shapes.
pub fn scratch_blocks(
    blocks: usize,
    block_size: usize,
    kv_heads: usize,
    head_dim: usize,
    dtype: DType,
    device: &Device,
) -> Result<KvBlocks> {
    let keys = Tensor::zeros((blocks, kv_heads, head_dim, block_size, 1), dtype, device)?;
    let values = Tensor::zeros((blocks, kv_heads, head_dim, block_size), dtype, device)?;
    KvBlocks::from_host(&keys, &values, head_dim)
}
