//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use candle_core::DType;
use clap::{Parser, ValueEnum};
use colm_checkpoint::{Architecture, ColmConfig, ConfigFile};
use colm_train::data::{Mix, Task};
use colm_train::paper_recipe::PaperRecipe;
use colm_train::recipe::Recipe;
use colm_train::state::beside;
use colm_train::tokenizer::ChatTokenizer;
use colm_train::weights::{StoredDtypes, Weights};

/// Trains a CoLM, CoLM-Air or Llama on dialogues generated from a seed, and writes a checkpoint for `colm`.
///
/// The defaults and --loss-weights 1,2,3,4 are the settings of models/tiny-colm, which trains in about an hour on two
/// cores. Examples:
///
///   train --out tiny-colm --loss-weights 1,2,3,4
///   train --out llama --arch llama --hidden 64 --intermediate 160 --heads 2 --kv-heads 1
///   colm-convert expand llama larger --chains 1,1
///   train --out grown --from larger --recipe expansion
///   train --out tuned --from models/tiny-colm --recipe chain-tuning --tasks weekday,month
///
/// Recipes of the paper (arXiv 2505.11820), with the names of python/examples/train.py:
///
///   pretrain       the loss at k = n
///   joint          the losses at every k (--loss-weights)
///   elastic-heads  as joint, but the backbone is frozen and the LM heads alone are trained
///   expansion      the loss at k = n with the first chain frozen, for a model from `colm-convert expand`
///   chain-tuning   the loss at k = n with all chains but the last frozen
#[derive(Parser)]
#[command(name = "train", verbatim_doc_comment)]
pub struct Arguments {
    /// The folder for the checkpoint, which must not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// Write to --out even if it exists, and replace the model in it. Without --resume also replace the state and the
    /// log of an earlier run.
    #[arg(long)]
    pub force: bool,

    /// The architecture. A llama is a CoLM of one chain.
    #[arg(long, value_enum, default_value_t = Kind::Colm, conflicts_with_all = ["config", "from"])]
    arch: Kind,
    /// The relative sizes of the chains [default: 1 for a llama, else 1,1,1,1]
    #[arg(long, value_name = "C1,C2,..", value_delimiter = ',', conflicts_with_all = ["config", "from"])]
    chains: Option<Vec<usize>>,
    /// hidden_size
    #[arg(long, default_value_t = 256, conflicts_with_all = ["config", "from"])]
    hidden: usize,
    /// intermediate_size
    #[arg(long, default_value_t = 640, conflicts_with_all = ["config", "from"])]
    intermediate: usize,
    /// num_hidden_layers
    #[arg(long, default_value_t = 5, conflicts_with_all = ["config", "from"])]
    layers: usize,
    /// num_attention_heads
    #[arg(long, default_value_t = 8, conflicts_with_all = ["config", "from"])]
    heads: usize,
    /// num_key_value_heads
    #[arg(long, default_value_t = 4, conflicts_with_all = ["config", "from"])]
    kv_heads: usize,
    /// The largest vocabulary size of the tokenizer.
    #[arg(long, default_value_t = 768, conflicts_with_all = ["config", "from"])]
    vocab: usize,
    /// A config.json with these settings; its vocab_size is the largest vocabulary size.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    config: Option<PathBuf>,
    /// Start from this checkpoint, in either layout, and keep its tokenizer.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,

    /// The recipe: what is trained on which loss. What is frozen comes from --from and stays the same bit for bit.
    #[arg(long, value_name = "RECIPE", default_value = "joint", value_parser = paper_recipe)]
    recipe: PaperRecipe,
    /// Freeze the first CHAINS chains as well, with the recipes that freeze no chain.
    #[arg(long, value_name = "CHAINS", requires = "from")]
    freeze: Option<usize>,
    /// The weights of the losses at k = 1, 2, .. for joint and elastic-heads [default: equal weights]
    #[arg(long, value_name = "W1,W2,..", value_delimiter = ',')]
    loss_weights: Option<Vec<f64>>,
    /// Train on these tasks only.
    #[arg(long, value_name = "TASK,..", value_delimiter = ',', value_parser = task)]
    tasks: Option<Vec<Task>>,
    /// Train on all tasks but these.
    #[arg(long, value_name = "TASK,..", value_delimiter = ',', value_parser = task, conflicts_with = "tasks")]
    without_tasks: Option<Vec<Task>>,

    /// The total number of optimizer steps.
    #[arg(long, default_value_t = 9000)]
    steps: usize,
    /// Conversations per step.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// The seed of weights, tokenizer and data.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The peak learning rate.
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    /// Steps of linear warm-up, after which the learning rate decays to 0 as a cosine.
    #[arg(long, default_value_t = 200)]
    warmup: usize,
    /// AdamW's weight decay of matrices.
    #[arg(long, default_value_t = 0.05)]
    weight_decay: f64,
    /// Clip gradients to this global norm.
    #[arg(long, default_value_t = 1.)]
    max_gradient_norm: f64,

    /// The dtype of the stored weights [default: that of --from, or f32 if it has several; else f16]
    #[arg(long, value_enum)]
    dtype: Option<DtypeName>,
    /// The file for the state of an unfinished run [default: OUT.state.safetensors]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Continue from the saved state, and the log with it.
    #[arg(long)]
    pub resume: bool,
    /// A CSV file for step, learning rate, gradient norm and the losses at every k.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Steps between saved states, each with a short evaluation.
    #[arg(long, default_value_t = 250)]
    pub every: usize,
    /// Held-out prompts per task for the evaluation of the finished model.
    #[arg(long, default_value_t = 200)]
    pub held_out: usize,
    /// The number of threads, which does not change the result [default: one per core]
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Llama,
    Colm,
    ColmAir,
}

#[derive(Clone, Copy, ValueEnum)]
enum DtypeName {
    F32,
    F16,
    Bf16,
}

/// The dtype that all tensors have; f32, which holds the values of every dtype, if they have several.
fn common_dtype(stored: &StoredDtypes) -> DType {
    let mut dtypes = stored.values().copied();
    let first = dtypes.next();
    let is_common = dtypes.all(|dtype| Some(dtype) == first);
    first.filter(|_| is_common).unwrap_or(DType::F32)
}

fn task(name: &str) -> Result<Task> {
    Task::named(name).with_context(|| {
        let known: Vec<&str> = Task::SCORED.iter().map(|task| task.name()).collect();
        format!("no such task; expected some of {}", known.join(", "))
    })
}

fn paper_recipe(name: &str) -> Result<PaperRecipe> {
    PaperRecipe::named(name).with_context(|| {
        format!(
            "no such recipe; expected one of {}",
            PaperRecipe::ALL.map(PaperRecipe::name).join(", ")
        )
    })
}

/// The inputs of a training run.
pub struct Start {
    pub weights: Weights,
    pub chat: ChatTokenizer,
    /// The dtype of the stored weights.
    pub dtype: DType,
}

/// The number of conversations that the tokenizer is trained on.
const TOKENIZER_CONVERSATIONS: usize = 50_000;

impl Arguments {
    /// The recipe for a model of this config. Fails for invalid settings.
    pub fn recipe(&self, config: &ColmConfig) -> Result<Recipe> {
        let chains = config.chains.count();
        let name = self.recipe.name();
        ensure!(
            self.from.is_some() || !self.recipe.freezes(),
            "--recipe {name} without --from, which would freeze random weights; expected --from DIR"
        );
        let frozen = match (self.recipe.frozen(chains).context("--recipe")?, self.freeze) {
            (frozen, None) => frozen,
            (0, Some(frozen)) => frozen,
            (_, Some(_)) => bail!(
                "--freeze with --recipe {name}, which chooses the frozen chains itself; expected \
                 --recipe pretrain, joint or elastic-heads"
            ),
        };
        let recipe = Recipe {
            seed: self.seed,
            steps: self.steps,
            batch_size: self.batch_size,
            tasks: self.tasks(),
            loss: self.recipe.loss(chains, self.loss_weights.clone()).context("--loss-weights")?,
            frozen,
            frozen_backbone: self.recipe.freezes_backbone(),
            learning_rate: self.learning_rate,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            max_gradient_norm: self.max_gradient_norm,
        };
        recipe.check(config)?;
        ensure!(self.every > 0, "--every 0; expected at least 1 step between two states");
        Ok(recipe)
    }

    /// The tasks to train on.
    fn tasks(&self) -> Vec<Task> {
        match (&self.tasks, &self.without_tasks) {
            (Some(tasks), _) => tasks.clone(),
            (None, Some(without)) => {
                Task::SCORED.iter().copied().filter(|task| !without.contains(task)).collect()
            }
            (None, None) => Task::SCORED.to_vec(),
        }
    }

    /// Reads the checkpoint of --from, or trains a tokenizer and initializes weights. Fails first if the run would
    /// replace what it must keep.
    pub fn start(&self) -> Result<Start> {
        self.check_outputs()?;
        if let Some(dir) = &self.from {
            return self.start_from(dir);
        }
        let file = match &self.config {
            Some(path) => ColmConfig::read(path)?.file,
            None => self.sizes()?,
        };
        // Check the sizes before the tokenizer is trained.
        ColmConfig::new(file.clone())?;
        let mix = Mix::of_vocabulary();
        let chat = ChatTokenizer::train(self.seed, TOKENIZER_CONVERSATIONS, file.vocab_size, mix)?;
        let config = ColmConfig::new(ConfigFile { vocab_size: chat.vocab_size(), ..file })?;
        let weights = Weights::random(&config, self.seed)?;
        Ok(Start { weights, chat, dtype: self.dtype(DType::F16) })
    }

    /// Reads the checkpoint of --from in `dir`. Fails if storing it would round what the recipe freezes.
    fn start_from(&self, dir: &Path) -> Result<Start> {
        let (weights, stored) = Weights::read(dir)?;
        let chat = ChatTokenizer::load(dir)?;
        let dtype = self.dtype(common_dtype(&stored));
        if let Some((name, own)) = self.rounded_frozen(&weights.config, &stored, dtype)? {
            bail!(
                "--dtype would round the frozen weights to {}: {name} in {} is {}; expected the dtype \
                 of all frozen weights, or f32",
                dtype.as_str(),
                dir.display(),
                own.as_str()
            );
        }
        Ok(Start { weights, chat, dtype })
    }

    /// A tensor that the recipe freezes and whose values would change if it were stored in `dtype`, and its own dtype.
    fn rounded_frozen(
        &self,
        config: &ColmConfig,
        stored: &StoredDtypes,
        dtype: DType,
    ) -> Result<Option<(String, DType)>> {
        let recipe = self.recipe(config)?;
        let frozen = config.tensors(config.all_chains()).filter(|tensor| !recipe.trains(tensor));
        let mut dtypes = frozen.filter_map(|tensor| stored.get_key_value(&tensor.name()));
        // f32 holds the values of every dtype.
        let rounded = dtypes.find(|(_, own)| **own != dtype && dtype != DType::F32);
        Ok(rounded.map(|(name, own)| (name.clone(), *own)))
    }

    /// The file for the state.
    pub fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| beside(&self.out, ".state.safetensors"))
    }

    fn dtype(&self, default: DType) -> DType {
        match self.dtype {
            Some(DtypeName::F32) => DType::F32,
            Some(DtypeName::F16) => DType::F16,
            Some(DtypeName::Bf16) => DType::BF16,
            None => default,
        }
    }

    fn sizes(&self) -> Result<ConfigFile> {
        ensure!(
            self.heads > 0 && self.hidden.is_multiple_of(self.heads),
            "--hidden {} over --heads {}; expected a whole number of columns per head",
            self.hidden,
            self.heads
        );
        let architecture = match self.arch {
            Kind::Llama | Kind::Colm => Architecture::Colm,
            Kind::ColmAir => Architecture::ColmAir,
        };
        let of_kind = if self.arch == Kind::Llama { vec![1] } else { vec![1; 4] };
        let chains = self.chains.clone().unwrap_or(of_kind);
        ensure!(
            self.arch != Kind::Llama || chains.len() == 1,
            "--arch llama with --chains {chains:?}; a llama has one chain"
        );
        Ok(ConfigFile {
            vocab_size: self.vocab,
            hidden_size: self.hidden,
            intermediate_size: self.intermediate,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: Some(self.kv_heads),
            head_dim: Some(self.hidden / self.heads),
            max_position_embeddings: 1024,
            ..ConfigFile::new(architecture, chains)
        })
    }
}
