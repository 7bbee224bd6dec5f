//! Checkpoint files in the chain layout (docs/spec.md#chain-layout).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{bail, Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use colm_checkpoint::ColmConfig;
use serde_json::json;

use crate::model::DenseColm;
use crate::parameters::{parameters, Axes};
use crate::stale_files::remove_stale_weights;
use crate::tokenizer::ChatTokenizer;
use crate::weights::Weights;

/// Writes config, index, generation config and one weight file per chain to `dir`, with weights in `dtype`. Removes the
/// weight files of a model that `dir` had before.
pub fn save(dir: &Path, weights: &Weights, dtype: DType) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let config = &weights.config;
    let chains = config.chains.count();
    let mut index = BTreeMap::new();
    let mut total_size = 0;
    for i in 0..chains {
        let file = format!("model-chain-{:05}-of-{chains:05}.safetensors", i + 1);
        let mut tensors = BTreeMap::new();
        for name in config.tensors_of(i).map(|tensor| tensor.name()) {
            let block = weights.blocks.get(&name).with_context(|| format!("no tensor {name}"))?;
            let block = block.to_dtype(dtype)?;
            total_size += block.elem_count() * dtype.size_in_bytes();
            index.insert(name.clone(), file.clone());
            tensors.insert(name, block);
        }
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        let path = dir.join(&file);
        safetensors::serialize_to_file(&tensors, Some(metadata), &path)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let written: BTreeSet<String> = index.values().cloned().collect();
    let index = json!({ "metadata": { "total_size": total_size }, "weight_map": index });
    write_json(dir, "model.safetensors.index.json", &index)?;
    let mut file = config.file.clone();
    file.other.insert("torch_dtype".into(), dtype_name(dtype)?.into());
    file.other.insert("eos_token_id".into(), ChatTokenizer::END_ID.into());
    file.other.insert("pad_token_id".into(), ChatTokenizer::END_ID.into());
    write_json(dir, "config.json", &file)?;
    let generation = json!({
        "do_sample": false, "eos_token_id": ChatTokenizer::END_ID, "pad_token_id": ChatTokenizer::END_ID
    });
    write_json(dir, "generation_config.json", &generation)?;
    remove_stale_weights(dir, &written)
}

fn dtype_name(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F16 => Ok("float16"),
        DType::BF16 => Ok("bfloat16"),
        DType::F32 => Ok("float32"),
        other => bail!("cannot store weights as {other:?}; expected f16, bf16 or f32"),
    }
}

/// Writes `value` as JSON to `dir/name`.
pub fn write_json(dir: &Path, name: &str, value: &impl serde::Serialize) -> Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, serde_json::to_string_pretty(value)? + "\n")
        .with_context(|| format!("writing {}", path.display()))
}

/// Reads a checkpoint of either layout as the dense model in f32. It does not use the reader of `colm-checkpoint`, so
/// that it can serve as a reference for that too.
pub fn load(dir: &Path) -> Result<DenseColm> {
    let config = ColmConfig::read(&dir.join("config.json"))?;
    let stored = read_tensors(dir)?;
    let chains = config.chains.count();
    let mut dense = HashMap::new();
    for parameter in parameters(&config) {
        let name = parameter.name();
        let tensor = match (stored.get(&name), &parameter.axes) {
            // Air's k and v may be stored without the zero columns after chain 1.
            (Some(tensor), Axes::Linear(_, input)) => {
                let width = tensor.dim(1)?;
                tensor.pad_with_zeros(1, 0, input.total().saturating_sub(width))?
            }
            (Some(tensor), _) => tensor.clone(),
            (None, _) => parameter.join(chains, |i| {
                let name = parameter.chain_name(i);
                let block = stored.get(&name).cloned();
                block.with_context(|| format!("{}: no tensor {name}", dir.display()))
            })?,
        };
        dense.insert(name, tensor);
    }
    let weights = VarBuilder::from_tensors(dense, DType::F32, &Device::Cpu);
    Ok(DenseColm::new(&config, weights)?)
}

/// All tensors of all safetensors files in `dir`, as f32.
fn read_tensors(dir: &Path) -> Result<HashMap<String, Tensor>> {
    let mut tensors = HashMap::new();
    for entry in dir.read_dir().with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let read = candle_core::safetensors::load(&path, &Device::Cpu)
                .with_context(|| format!("reading {}", path.display()))?;
            for (name, tensor) in read {
                tensors.insert(name, tensor.to_dtype(DType::F32)?);
            }
        }
    }
    Ok(tensors)
}
