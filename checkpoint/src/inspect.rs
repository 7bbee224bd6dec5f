//! A summary of a checkpoint folder and the cost of every chain count. Headers are read, weights are not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use safetensors::Dtype;
use serde::Serialize;

use crate::config::{ChainCount, ColmConfig};
use crate::format::{AllowedDeviations, ChainSize, CheckpointError, Projection, TensorId};
use crate::read::{read_config, Checkpoint, ModelConfig, WeightFiles};

/// The quantized types whose memory is shown, and their names.
const QUANTIZED: [(&str, GgmlDType); 3] =
    [("q8_0", GgmlDType::Q8_0), ("q6k", GgmlDType::Q6K), ("q4k", GgmlDType::Q4K)];

/// A summary of a checkpoint folder. `colm-convert inspect --json` prints these fields. A field that
/// is not known is null.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// "CoLMForCausalLM" or "CoLMAirForCausalLM".
    pub architecture: &'static str,
    /// Whether config.json is of the Llama family. If so, the other fields describe the equivalent
    /// CoLM of one chain.
    pub is_llama: bool,
    /// The relative sizes of the chains.
    pub chains: Vec<usize>,
    /// The widths of each chain.
    pub widths: Vec<ChainShares>,
    /// `num_hidden_layers`.
    pub layers: usize,
    /// `vocab_size`.
    pub vocab_size: usize,
    /// Elements of a query, key or value head.
    pub head_dim: usize,
    /// Whether the head shares the weights of the embedding.
    pub tie_word_embeddings: bool,
    /// `max_position_embeddings`, in tokens.
    pub max_position_embeddings: usize,
    /// "chains", "dense", or "paper" for the paper's own conventions; null without weights.
    pub layout: Option<&'static str>,
    /// The number of parameters of each dtype found: "F32", "F16", "BF16".
    pub dtypes: BTreeMap<String, u128>,
    /// The dtype of weights that were not found: that of the first key projection, or else `torch_dtype`, or else F32.
    pub dtype: String,
    /// The cost at 1 chain, at 2 chains, and so on up to all chains.
    pub costs: Vec<Cost>,
}

/// The share of one chain in every width.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainShares {
    /// The width of its hidden vector.
    pub hidden: usize,
    /// The width of its MLP.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads that it owns. In Air chain 1 owns all of them.
    pub kv_heads: usize,
}

/// The cost of the model at k chains (`docs/spec.md#cost`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// k.
    pub chains: usize,
    /// Elements of all tensors.
    pub parameters: u128,
    /// Bytes of all tensors, in the dtypes of the files or, if they are not found, in
    /// [`Inspection::dtype`].
    pub memory_bytes: u128,
    /// Bytes of the files needed; null if one is missing.
    pub disk_bytes: Option<u64>,
    /// The names of the files needed; null if one is missing.
    pub files: Option<Vec<String>>,
    /// Bytes of all tensors with linear layers and head quantized, by the type's name ("q8_0", "q6k", "q4k"). The other
    /// tensors are in [`Inspection::dtype`], and a tied head is a copy.
    pub quantized_bytes: BTreeMap<&'static str, u128>,
    /// Bytes of KV cache per token in F32, the engine's default on a CPU. BF16 and F16 take half.
    pub kv_bytes_per_token: u128,
    /// Multiply-adds of the linear layers per prompt token; in Air those of chain 1.
    pub prompt_multiply_adds: u128,
    /// Multiply-adds of the linear layers and the head per decoded token.
    pub decode_multiply_adds: u128,
}

/// Summarizes folder `dir`. It may hold config.json alone, or the files of the first chains only.
///
/// # Errors
/// If the config or the headers of the files found break a rule of `docs/spec.md`.
pub fn inspect(dir: &Path) -> Result<Inspection, CheckpointError> {
    let ModelConfig { config, deviations, is_llama } = read_config(dir)?;
    let k = chains_present(dir, &config, deviations)?;
    let open = |k| Checkpoint::open_with(dir, &config, k, deviations);
    let checkpoint = k.map(open).transpose()?;
    let dtype = weight_dtype(&config, checkpoint.as_ref());
    let layout = checkpoint.as_ref().map(|checkpoint| checkpoint.naming().name());
    Ok(Inspection {
        architecture: config.architecture.name(),
        is_llama,
        chains: config.chains.ratios().to_vec(),
        widths: widths(&config),
        layers: config.file.num_hidden_layers,
        vocab_size: config.file.vocab_size,
        head_dim: config.head_dim,
        tie_word_embeddings: config.file.tie_word_embeddings,
        max_position_embeddings: config.file.max_position_embeddings,
        layout,
        dtypes: checkpoint.as_ref().map(dtypes).unwrap_or_default(),
        dtype: dtype.to_string(),
        costs: costs(dir, &config, deviations, checkpoint.as_ref(), dtype),
    })
}

/// The share of every chain in every width.
pub fn widths(config: &ColmConfig) -> Vec<ChainShares> {
    let shares = |i| ChainShares {
        hidden: config.hidden.of(i),
        intermediate: config.intermediate.of(i),
        heads: config.heads.of(i),
        kv_heads: config.kv_heads.of(i),
    };
    (0..config.chains.count()).map(shares).collect()
}

/// The costs of a model that is not written yet, in the dtype of its `torch_dtype`.
pub fn planned_costs(config: &ColmConfig) -> Vec<Cost> {
    let (deviations, dtype) = (AllowedDeviations::FOR_COLM, weight_dtype(config, None));
    costs(Path::new(""), config, deviations, None, dtype)
}

/// The chain count whose files are present; None if there are no weights at all.
fn chains_present(
    dir: &Path,
    config: &ColmConfig,
    deviations: AllowedDeviations,
) -> Result<Option<ChainCount>, CheckpointError> {
    let find = |k| WeightFiles::find(dir, config, k, deviations);
    match find(config.all_chains()) {
        Ok(_) => Ok(Some(config.all_chains())),
        Err(CheckpointError::NoWeights { .. }) => Ok(None),
        // In the chain layout the files of later chains need not be present.
        Err(CheckpointError::MissingFile { .. }) if find(ChainCount::ONE).is_ok() => {
            let (mut present, mut missing) = (1, config.chains.count());
            while missing - present > 1 {
                let middle = present + (missing - present) / 2;
                match find(config.chain_count(middle)?) {
                    Ok(_) => present = middle,
                    Err(_) => missing = middle,
                }
            }
            Ok(Some(config.chain_count(present)?))
        }
        Err(error) => Err(error),
    }
}

fn dtypes(checkpoint: &Checkpoint) -> BTreeMap<String, u128> {
    let mut dtypes = BTreeMap::new();
    for tensor in
        (0..checkpoint.chain_count().get()).flat_map(|chain| checkpoint.stored_tensors(chain))
    {
        let elements: usize = tensor.shape().iter().product();
        *dtypes.entry(checkpoint.dtype(&tensor).to_string()).or_default() += elements as u128;
    }
    dtypes
}

fn weight_dtype(config: &ColmConfig, checkpoint: Option<&Checkpoint>) -> Dtype {
    let key = config
        .tensors_of(0)
        .find(|tensor| matches!(tensor.id, TensorId::Weight { projection: Projection::K, .. }));
    if let Some((checkpoint, key)) = checkpoint.zip(key) {
        return checkpoint.dtype(&key);
    }
    match config.file.other.get("torch_dtype").and_then(|name| name.as_str()) {
        Some("bfloat16" | "torch.bfloat16") => Dtype::BF16,
        Some("float16" | "torch.float16") => Dtype::F16,
        _ => Dtype::F32,
    }
}

fn costs(
    dir: &Path,
    config: &ColmConfig,
    deviations: AllowedDeviations,
    checkpoint: Option<&Checkpoint>,
    dtype: Dtype,
) -> Vec<Cost> {
    let is_absent = |projection| deviations.no_o_bias && projection == Projection::O;
    let element = (dtype.bitsize() / 8) as u128;
    let (mut upto, mut memory_bytes, mut first) = (ChainSize::default(), 0, 0);
    let mut quantized_bytes = BTreeMap::new();
    let mut costs = Vec::new();
    for k in config.chains.counts() {
        let chain = k.get() - 1;
        let size = config.chain_size(chain, is_absent);
        upto.parameters += size.parameters;
        upto.linear += size.linear;
        upto.head += size.head;
        if k == ChainCount::ONE {
            first = size.linear;
        }
        memory_bytes += match checkpoint.filter(|checkpoint| k <= checkpoint.chain_count()) {
            Some(checkpoint) => bytes_of(checkpoint, chain),
            None => size.parameters * element,
        };
        for (name, wanted) in QUANTIZED {
            // Without a head of its own, the embedding stays beside the quantized copy.
            let head = if config.file.tie_word_embeddings { 0 } else { size.head };
            let floats = size.parameters - size.linear - head;
            let bytes = floats * element + config.quantized_bytes(chain, wanted, element);
            *quantized_bytes.entry(name).or_default() += bytes;
        }
        let files = checkpoint.and_then(|_| files(dir, config, k, deviations));
        let prompt_linear = if config.prompt_chains(k) == k { upto.linear } else { first };
        costs.push(Cost {
            chains: k.get(),
            parameters: upto.parameters,
            memory_bytes,
            disk_bytes: files.as_ref().map(|files| files.iter().map(|(_, bytes)| bytes).sum()),
            files: files.map(|files| files.into_iter().map(|(name, _)| name).collect()),
            quantized_bytes: quantized_bytes.clone(),
            kv_bytes_per_token: config.kv_elements(k) * size_of::<f32>() as u128,
            prompt_multiply_adds: prompt_linear,
            decode_multiply_adds: upto.linear + upto.head,
        });
    }
    costs
}

/// Bytes of the tensors of `chain`.
fn bytes_of(checkpoint: &Checkpoint, chain: usize) -> u128 {
    let tensors = checkpoint.stored_tensors(chain);
    let bytes = tensors.map(|tensor| {
        let elements: usize = tensor.shape().iter().product();
        elements as u128 * (checkpoint.dtype(&tensor).bitsize() / 8) as u128
    });
    bytes.sum()
}

/// Names and sizes of the files needed for `k` chains; None if one is missing.
fn files(
    dir: &Path,
    config: &ColmConfig,
    k: ChainCount,
    deviations: AllowedDeviations,
) -> Option<Vec<(String, u64)>> {
    let files = WeightFiles::find(dir, config, k, deviations).ok()?;
    let sized = files.paths.iter().map(|path| {
        let bytes = fs::metadata(path).ok()?.len();
        Some((path.file_name()?.to_string_lossy().into_owned(), bytes))
    });
    sized.collect()
}
