//! The contenders: every model at every chain count.

use std::path::Path;

use anyhow::Result;
use colm::kv_bytes_per_token;
use colm_checkpoint::{Architecture, ColmConfig, TensorId};

use super::checkpoint::{write_colm, write_llama};
use super::protocol::EngineKind;
use super::python::Python;
use super::shape::{Setting, Shape, Weights};

/// A set of weights in one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub engine: EngineKind,
    architecture: Architecture,
    chains: &'static [usize],
}

/// The contenders that others are compared with.
pub const HOST_LLAMA: &str = "mistral.rs Llama";
pub const LLAMA_CPP: &str = "llama.cpp";
pub const COLM_DENSE: &str = "colm [1]";

impl Model {
    const fn new(engine: EngineKind, architecture: Architecture, chains: &'static [usize]) -> Self {
        Self { engine, architecture, chains }
    }

    /// The name, such as `Air [1,1]`.
    pub fn name(&self) -> String {
        let list = || self.chains.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        match (self.engine, self.architecture, self.chains.len()) {
            (EngineKind::HostLlama, ..) => HOST_LLAMA.into(),
            (EngineKind::LlamaCpp, ..) => LLAMA_CPP.into(),
            (EngineKind::Colm, Architecture::Colm, 1) => COLM_DENSE.into(),
            (EngineKind::Colm, Architecture::Colm, _) => format!("CoLM [{}]", list()),
            (EngineKind::Colm, Architecture::ColmAir, _) => format!("Air [{}]", list()),
        }
    }

    /// The number of chains.
    pub fn chains(&self) -> usize {
        self.chains.len()
    }

    /// The config as a CoLM; the Llamas are CoLMs of one chain.
    pub fn config(&self, setting: &Setting) -> Result<ColmConfig> {
        let json = setting.config(self.architecture, self.chains);
        Ok(ColmConfig::parse(&json.to_string())?)
    }

    /// The dtype of the weights in memory. mistral.rs cannot multiply in bf16 on a CPU, so its Llama runs in f32 from
    /// the same bf16 files.
    pub fn weights(&self, setting: &Setting) -> Weights {
        match (self.engine, setting.weights) {
            (EngineKind::HostLlama, Weights::Bf16) => Weights::F32,
            (_, weights) => weights,
        }
    }

    /// Writes the model to `path`: a folder, or a GGUF file for llama.cpp.
    pub fn write(&self, path: &Path, setting: &Setting, python: &Python) -> Result<()> {
        let config = setting.config(self.architecture, self.chains);
        match self.engine {
            EngineKind::Colm => write_colm(path, &config, setting.file_dtype()),
            EngineKind::HostLlama => write_llama(path, &config, setting.file_dtype()),
            EngineKind::LlamaCpp => python.write_gguf(path, &config, setting.weights, None),
        }
    }
}

/// A model at one chain count.
#[derive(Clone, Debug)]
pub struct Contender {
    pub model: Model,
    /// The chain count; 1 for the Llamas.
    pub k: usize,
}

impl Contender {
    /// The name, such as `Air [1,1] k=2`.
    pub fn name(&self) -> String {
        match self.model.chains() {
            1 => self.model.name(),
            _ => format!("{} k={}", self.model.name(), self.k),
        }
    }

    /// The chain count to request from colm; `None` for other engines.
    pub fn requested_chains(&self) -> Option<usize> {
        (self.model.engine == EngineKind::Colm).then_some(self.k)
    }

    /// Bytes of weights, in the linear layers and the head, that decoding one token reads.
    pub fn weight_bytes(&self, setting: &Setting) -> Result<f64> {
        let config = self.model.config(setting)?;
        let matrices =
            config.tensors(config.chain_count(self.k)?).filter(|tensor| tensor.shape().len() == 2);
        // Of the embedding only one row is read, unless it is the head too.
        let tied = config.file.tie_word_embeddings;
        let read = matrices.filter(|tensor| tied || tensor.id != TensorId::Embedding);
        let weights: usize = read.map(|tensor| tensor.shape().iter().product::<usize>()).sum();
        Ok(weights as f64 * setting.weights.bytes())
    }

    /// Bytes of keys and values that decoding one token after `context` others reads.
    pub fn kv_bytes(&self, setting: &Setting, context: usize) -> Result<f64> {
        let dtype = match setting.weights {
            Weights::Bf16 => candle_core::DType::BF16,
            _ => candle_core::DType::F32,
        };
        let config = self.model.config(setting)?;
        Ok((context * kv_bytes_per_token(&config, config.chain_count(self.k)?, dtype)) as f64)
    }
}

/// All contenders of `setting`, in the order in which they are measured and listed.
pub fn contenders(setting: &Setting) -> Vec<Contender> {
    use Architecture::{Colm, ColmAir};
    let dense =
        [Model::new(EngineKind::LlamaCpp, Colm, &[1]), Model::new(EngineKind::Colm, Colm, &[1])];
    let host = Model::new(EngineKind::HostLlama, Colm, &[1]);
    let chained = [
        Model::new(EngineKind::Colm, ColmAir, &[1, 1]),
        Model::new(EngineKind::Colm, ColmAir, &[1, 1, 1, 1]),
        Model::new(EngineKind::Colm, Colm, &[1, 1]),
        Model::new(EngineKind::Colm, Colm, &[1, 1, 1, 1]),
    ];
    // Quantized weights are compared on the dense model only, which all engines compute alike, and so is the real shape,
    // which the host's Llama does not have.
    let only_dense = setting.weights.isq().is_some() || setting.shape == Shape::Qwen;
    let models: Vec<Model> = if only_dense {
        dense.to_vec()
    } else {
        dense.into_iter().chain([host]).chain(chained).collect()
    };
    let at_every_k =
        |model: Model| (1..=model.chains()).map(move |k| Contender { model: model.clone(), k });
    models.into_iter().flat_map(at_every_k).collect()
}
