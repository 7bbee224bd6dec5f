//! The two architectures.

use serde::{Deserialize, Serialize};

/// The two architectures of `docs/spec.md#layers`. They differ only in which chains own keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Every chain owns its keys and values.
    #[serde(rename = "CoLMForCausalLM")]
    Colm,
    /// Chain 1 owns all keys and values; every chain reads them.
    #[serde(rename = "CoLMAirForCausalLM")]
    ColmAir,
}

impl Architecture {
    /// The name in `architectures`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Colm => "CoLMForCausalLM",
            Self::ColmAir => "CoLMAirForCausalLM",
        }
    }

    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Colm => "colm",
            Self::ColmAir => "colm_air",
        }
    }

    /// The chain (from 0) whose keys and values chain `i` attends to.
    pub fn kv_owner(self, i: usize) -> usize {
        match self {
            Self::Colm => i,
            Self::ColmAir => 0,
        }
    }
}
