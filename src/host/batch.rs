//! From the engine's padded batch to the rows of a [`Step`](crate::model::Step), and from logits back to the engine's form.

use candle_core::{bail, Device, Result, Tensor};
use colm_kernels::BlockTables;
use mistralrs_core::ext::PagedAttentionInputMetadata;

use super::step_plan::SequencePlan;
use crate::model::speculation::DecodeRow;
use crate::model::{ActiveRows, SequenceInput, SequenceRows};

/// What the engine hands to a forward pass, one padded row of tokens per sequence.
pub struct Batch<'a> {
    /// `[sequences, longest]` u32, padded on the right.
    pub input_ids: &'a Tensor,
    /// Per sequence, the position of its first token.
    pub seqlen_offsets: &'a [usize],
    /// Per sequence, (start, length) of the tokens whose logits are requested, in its padded row.
    pub context_lens: &'a [(usize, usize)],
    /// Where keys and values are.
    pub paging: Paging,
    /// Per sequence, its chain count.
    pub chain_counts: &'a [usize],
    /// Per sequence, whether the logits of all its rows are requested, whatever `context_lens` says.
    pub all_logits: &'a [bool],
}

/// Where the keys and values of a batch are.
pub struct Paging {
    /// `[sequences, longest]`: the slot of each token; negative for padding.
    slots: Vec<Vec<i64>>,
    tables: BlockTables,
}

impl Paging {
    /// The slots and block tables that the engine has allocated, on `device`.
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

impl Batch<'_> {
    /// The sequences of the batch, without padding.
    pub fn sequences(&self) -> Result<Vec<SequenceInput>> {
        let ids = self.input_ids.to_vec2::<u32>()?;
        let entries = [
            self.seqlen_offsets.len(),
            self.context_lens.len(),
            self.paging.slots.len(),
            self.chain_counts.len(),
            self.all_logits.len(),
        ];
        if entries.iter().any(|&entries| entries != ids.len()) {
            bail!("the engine's batch of {} sequences comes with {entries:?} entries", ids.len());
        }
        let sequence = |(index, ids): (usize, &Vec<u32>)| {
            // Padding has no slot, and is at the end.
            let rows = self.paging.slots[index].iter().take_while(|&&slot| slot >= 0).count();
            let rows = rows.min(ids.len());
            // The engine counts in padded rows: the last token of a short sequence is at the end of the padding.
            let padding = ids.len() - rows;
            let (start, length) = self.context_lens[index];
            let requested = start.saturating_sub(padding)..(start + length).saturating_sub(padding);
            SequenceInput {
                rows: SequenceRows {
                    first_position: self.seqlen_offsets[index],
                    count: rows,
                    logits: if self.all_logits[index] { 0..rows } else { requested },
                    chain_count: self.chain_counts[index],
                },
                tokens: ids[..rows].to_vec(),
                block_table: self.paging.tables.blocks(index).unwrap_or_default().to_vec(),
            }
        };
        Ok(ids.iter().enumerate().map(sequence).collect())
    }

    /// Fails if the slots of `sequences` are not those that the engine has allocated.
    ///
    /// The engine passes slots and block tables. [`Step`](crate::model::Step) computes the slots from the tables, as it does
    /// for drafts and scratch blocks; if the two disagreed, a row would overwrite keys and values of another sequence.
    pub fn check_slots(&self, sequences: &[SequenceInput], block_size: usize) -> Result<()> {
        for (sequence, allocated) in sequences.iter().zip(&self.paging.slots) {
            let slots = sequence.slots(block_size)?;
            if !allocated.iter().filter(|&&slot| slot >= 0).eq(&slots) {
                bail!("the slots of the engine differ from those of its block tables");
            }
        }
        Ok(())
    }
}

/// The row of `sequence`, which has the plan `plan`; None unless it decodes exactly one row.
pub fn decode_row(sequence: &SequenceInput, plan: &SequencePlan) -> Option<DecodeRow> {
    let [token] = sequence.tokens[..] else { return None };
    Some(DecodeRow {
        sequence: plan.decoding?,
        counters: plan.drafts.clone(),
        token,
        position: sequence.rows.first_position,
        chain_count: sequence.rows.chain_count,
        block_table: sequence.block_table.clone(),
    })
}

/// The logits that a batch requests.
pub struct RequestedLogits {
    /// `[rows, vocab_size]`, sequence by sequence.
    rows: Tensor,
    /// The number of rows of each sequence: none if a prompt goes on in the next step.
    counts: Vec<usize>,
}

impl RequestedLogits {
    /// `rows` are the logits of all rows that `active` requests, in the order of the step.
    pub fn new(rows: Tensor, active: &ActiveRows) -> Self {
        let counts = active.sequences().iter().map(|sequence| sequence.logits.len());
        Self { rows, counts: counts.collect() }
    }

    /// One row, `[vocab_size]`, of each of `sequences` sequences.
    pub fn one_each(rows: Tensor, sequences: usize) -> Self {
        Self { rows, counts: vec![1; sequences] }
    }

    /// The logits of a larger batch: `known` has, per sequence, its one row, `[vocab_size]`, or None, and `computed` has the
    /// rows of the sequences with None.
    pub fn merged(known: Vec<Option<Tensor>>, computed: Option<Self>) -> Result<Self> {
        let computed = match computed {
            Some(computed) if known.iter().all(Option::is_none) => return Ok(computed),
            computed => computed,
        };
        let (mut parts, mut counts) =
            (Vec::with_capacity(known.len()), Vec::with_capacity(known.len()));
        let (mut first, mut missing) = (0, 0);
        for known in known {
            let count = match (known, &computed) {
                (Some(row), _) => {
                    parts.push(row.unsqueeze(0)?);
                    1
                }
                (None, Some(computed)) => {
                    let count = computed.counts[missing];
                    parts.push(computed.rows.narrow(0, first, count)?);
                    (first, missing) = (first + count, missing + 1);
                    count
                }
                (None, None) => bail!("the logits of a sequence are neither known nor computed"),
            };
            counts.push(count);
        }
        Ok(Self { rows: Tensor::cat(&parts, 0)?, counts })
    }

    /// `[sequences, most rows requested by one, vocab_size]`. Sequences that request fewer rows end in zeros.
    pub fn padded(&self) -> Result<Tensor> {
        let Self { rows: logits, counts } = self;
        let most = counts.iter().copied().max().unwrap_or(0);
        let vocab_size = logits.dim(1)?;
        if counts.iter().all(|&rows| rows == most) {
            return logits.reshape((counts.len(), most, vocab_size));
        }
        let mut first = 0;
        let mut sequences = Vec::with_capacity(counts.len());
        for &rows in counts {
            sequences.push(match rows {
                0 => Tensor::zeros((most, vocab_size), logits.dtype(), logits.device())?,
                _ => logits.narrow(0, first, rows)?.pad_with_zeros(0, 0, most - rows)?,
            });
            first += rows;
        }
        Tensor::stack(&sequences, 0)
    }
}
