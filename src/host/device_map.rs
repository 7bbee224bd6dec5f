//! The sizes that the host needs to place a model's layers on devices.

use anyhow::{bail, Result};
use candle_core::DType;
use mistralrs_core::ext::{DeviceMappedModelLoader, ModelConfigLike};
use mistralrs_core::AutoDeviceMapParams;

use super::loader::{metadata, ColmLoader};
use super::weight_sizes::weight_sizes;

impl DeviceMappedModelLoader for ColmLoader {
    fn mapped_max_act_size_elems(&self, json: &str, params: &AutoDeviceMapParams) -> Result<usize> {
        let AutoDeviceMapParams::Text { max_seq_len, max_batch_size } = params else {
            bail!("CoLM is a text model: expected text parameters for its device map");
        };
        let (config, k) = self.config(json)?;
        // The widest tensors of a block: gate, up and their product, of every row.
        Ok(3 * max_batch_size * max_seq_len * config.intermediate.first(k.get()))
    }

    fn non_mapped_max_act_size_elems(
        &self,
        json: &str,
        params: &AutoDeviceMapParams,
    ) -> Result<usize> {
        let (config, _) = self.config(json)?;
        let AutoDeviceMapParams::Text { max_batch_size, .. } = params else {
            bail!("CoLM is a text model: expected text parameters for its device map");
        };
        Ok(max_batch_size * config.file.vocab_size)
    }

    fn non_mapped_size_in_bytes(
        &self,
        json: &str,
        dtype: DType,
        weight_pack_factor: usize,
        _matformer: Option<&mistralrs_core::matformer::MatformerSliceConfig>,
    ) -> Result<usize> {
        let (config, k) = self.config(json)?;
        Ok(weight_sizes(&config, k, dtype, weight_pack_factor).outside_layers)
    }

    fn layer_sizes_in_bytes(
        &self,
        json: &str,
        dtype: DType,
        weight_pack_factor: usize,
        _matformer: Option<&mistralrs_core::matformer::MatformerSliceConfig>,
    ) -> Result<Vec<usize>> {
        let (config, k) = self.config(json)?;
        Ok(weight_sizes(&config, k, dtype, weight_pack_factor).layers)
    }

    fn num_layers(&self, json: &str) -> Result<usize> {
        Ok(self.config(json)?.0.file.num_hidden_layers)
    }

    fn model_config(&self, json: &str) -> Result<Box<dyn ModelConfigLike>> {
        let (config, k) = self.config(json)?;
        Ok(Box::new(metadata(&config, k)))
    }
}
