//! config.json (`docs/spec.md#config`): its fields, their checks, and the widths of the chains.
//!
//! [`ColmConfig::parse`] is the entry: text -> [`Fields`] (JSON values; RoPE's fields brought into one
//! form by [`RopeFields`]) -> [`ConfigFile`] (typed fields) -> [`ColmConfig`] (checked, every width
//! split over the [`Chains`], by their proportions or as [`ChainWidths`] says).

mod architecture;
mod chain_count;
mod chain_widths;
mod chains;
mod checks;
mod colm_config;
mod error;
mod fields;
mod file;
mod limits;
mod quantization;
mod ranges;
mod rope_fields;
mod rope_scaling;

pub use architecture::Architecture;
pub use chain_count::{ChainCount, ChainCountError};
pub use chain_widths::ChainWidths;
pub use chains::{Chains, Split};
pub(crate) use colm_config::read_text;
pub use colm_config::ColmConfig;
pub(crate) use error::invalid;
pub use error::ConfigError;
pub(crate) use fields::{same_value, Fields};
pub use file::ConfigFile;
pub(crate) use limits::{MAX_CHAINS, MAX_LAYERS, MAX_POSITIONS, MAX_SIZE};
pub use quantization::check_not_quantized;
pub(crate) use ranges::check_size;
pub(crate) use rope_fields::RopeFields;
pub use rope_scaling::{Llama3Scaling, RopeScaling};
