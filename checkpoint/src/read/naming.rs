//! How the tensors of a folder are named.

use crate::config::ColmConfig;
use crate::format::{ChainTensor, Layout, TensorId};
use crate::paper::PaperTensor;

/// How the tensors of a folder are named, and what each of them holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// [`Layout::Chains`].
    Chains,
    /// [`Layout::Dense`].
    Dense,
    /// The paper's own conventions.
    Paper,
}

impl From<Layout> for Naming {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Chains => Self::Chains,
            Layout::Dense => Self::Dense,
        }
    }
}

impl Naming {
    /// The layout that is nearest. In the paper's conventions a linear layer is a list of the chains' matrices.
    pub fn layout(self) -> Layout {
        match self {
            Self::Chains | Self::Paper => Layout::Chains,
            Self::Dense => Layout::Dense,
        }
    }

    /// "chains", "dense" or "paper".
    pub fn name(self) -> &'static str {
        match self {
            Self::Chains => "chains",
            Self::Dense => "dense",
            Self::Paper => "paper",
        }
    }

    /// The name of the tensor that holds the share of `chain` in tensor `id`.
    pub fn name_of_share(self, config: &ColmConfig, id: TensorId, chain: usize) -> String {
        match self {
            Self::Chains => id.chain_name(chain),
            Self::Dense => id.dense_name(),
            Self::Paper => PaperTensor::holding(config, id, chain).name(),
        }
    }

    /// The name of the tensor that holds `tensor`.
    pub fn name_of(self, config: &ColmConfig, tensor: &ChainTensor) -> String {
        self.name_of_share(config, tensor.id, tensor.chain)
    }
}
