//! The model's code for transformers, beside a checkpoint.

use serde_json::json;

use super::plan::ConversionPlan;
use crate::config::{Architecture, ConfigFile};
use crate::format::CheckpointError;

/// A file of the Python package, by its name.
macro_rules! python_file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../python/src/colm/", $name)))
    };
}

/// The names and texts of the Python files that define config, backbone and language model. They import nothing else of
/// the package.
const PYTHON_FILES: [(&str, &str); 11] = [
    python_file!("backbone.py"),
    python_file!("chain_attention.py"),
    python_file!("chain_layers.py"),
    python_file!("chain_loss.py"),
    python_file!("chain_widths.py"),
    python_file!("configuration_colm.py"),
    python_file!("loading.py"),
    python_file!("modeling_colm.py"),
    python_file!("rope_fields.py"),
    python_file!("saving.py"),
    python_file!("transformers_versions.py"),
];

impl ConversionPlan {
    /// The same checkpoint, and beside its weights the model's code for transformers, to which `auto_map` in config.json
    /// leads. Programs without the Python package `colm` can then load it with `trust_remote_code=True`.
    ///
    /// # Errors
    /// [`CheckpointError::PythonNeedsChainLayout`] if the checkpoint is in the dense layout, which this code does not
    /// read.
    pub fn with_python(mut self) -> Result<Self, CheckpointError> {
        // Only the chain layout has an index.
        if !self.has_index {
            return Err(CheckpointError::PythonNeedsChainLayout);
        }
        let mut file: ConfigFile =
            serde_json::from_str(&self.config).map_err(CheckpointError::Json)?;
        let classes =
            if file.model_type == Architecture::ColmAir.model_type() { "ColmAir" } else { "Colm" };
        let auto_map = json!({
            "AutoConfig": format!("configuration_colm.{classes}Config"),
            "AutoModel": format!("backbone.{classes}Model"),
            "AutoModelForCausalLM": format!("modeling_colm.{classes}ForCausalLM"),
        });
        file.other.insert("auto_map".into(), auto_map);
        self.config = serde_json::to_string_pretty(&file).map_err(CheckpointError::Json)?;
        self.python_files = &PYTHON_FILES;
        Ok(self)
    }
}
