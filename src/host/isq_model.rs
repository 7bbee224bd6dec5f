//! [`HostedColm`] as the engine's `IsqModel`: the linear layers that the engine may quantize, and the other tensors, which
//! it stores beside them.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use colm_checkpoint::{Projection, TensorId};
use mistralrs_core::ext::{DeviceMapper, IsqModel, UnVarBuilder};
use mistralrs_quant::QuantMethod;

use super::normal_model::HostedColm;

/// The host's trait gives these functions no way to fail.
const UNPACKED: &str = "weights on the CPU can be unpacked";

impl IsqModel for HostedColm {
    fn get_layers(
        &mut self,
    ) -> (Vec<(&mut Arc<dyn QuantMethod>, Option<usize>)>, &dyn DeviceMapper) {
        let mut layers: Vec<(&mut Arc<dyn QuantMethod>, Option<usize>)> = Vec::new();
        let head = self.colm.lm_head.host_linears_mut().expect(UNPACKED);
        layers.extend(head.into_iter().map(|linear| (linear, None)));
        for (index, layer) in self.colm.layers.iter_mut().enumerate() {
            for linear in layer.linears_mut() {
                let linears = linear.host_linears_mut().expect(UNPACKED);
                layers.extend(linears.iter_mut().map(|linear| (linear, Some(index))));
            }
        }
        (layers, &*self.mapper)
    }

    /// The names of calibration statistics, in the order of `get_layers`: the LM head has none.
    fn imatrix_names(&self) -> Result<Vec<Option<String>>> {
        let chains = self.colm.chain_count().get();
        let mut names = vec![None; chains];
        for layer in 0..self.metadata.num_layers {
            for projection in Projection::ALL {
                let part = TensorId::Weight { layer, projection };
                let owned =
                    (0..chains).filter(|&i| self.colm.config().chain_tensor(part, i).is_some());
                names.extend(owned.map(|i| Some(part.chain_name(i))));
            }
        }
        Ok(names)
    }

    fn residual_tensors(&self) -> Vec<(String, Tensor)> {
        let residual = UnVarBuilder::new();
        let tables = self.colm.embed_tokens.tables().expect(UNPACKED);
        let add = |name: String, tensors: &[Tensor]| {
            for (i, tensor) in tensors.iter().enumerate() {
                residual.pp(&name).pp("chains").pp(i).add_tensor("weight", tensor.clone());
            }
        };
        add("model.embed_tokens".into(), &tables);
        add("model.norm".into(), &self.colm.norm.weights);
        for (index, layer) in self.colm.layers.iter().enumerate() {
            add(format!("model.layers.{index}.input_layernorm"), &layer.input_layernorm.weights);
            let norm = &layer.post_attention_layernorm;
            add(format!("model.layers.{index}.post_attention_layernorm"), &norm.weights);
            let attention = &layer.self_attn;
            for (name, norm) in [("q_norm", &attention.q_norm), ("k_norm", &attention.k_norm)] {
                if let Some(norm) = norm {
                    add(format!("model.layers.{index}.self_attn.{name}"), &norm.weights);
                }
            }
        }
        residual.to_safetensors()
    }
}
