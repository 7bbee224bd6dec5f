//! Logit bias: values that are added to the logits of some tokens.

use candle_core::{Result, Tensor};
use mistralrs_core::CustomLogitsProcessor;

/// Adds a bias to the logits of tokens. The host does not support this itself.
pub(super) struct LogitBias(pub Vec<(u32, f32)>);

impl CustomLogitsProcessor for LogitBias {
    fn apply(&self, logits: &Tensor, _context: &[u32]) -> Result<Tensor> {
        let mut values = logits.to_vec1::<f32>()?;
        for &(token, bias) in &self.0 {
            if let Some(logit) = values.get_mut(token as usize) {
                *logit += bias;
            }
        }
        Tensor::from_vec(values, logits.shape(), logits.device())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_bias_is_added_to_its_token() {
        let logits = Tensor::new(&[1f32, 2., 3.], &Device::Cpu).unwrap();
        let biased = LogitBias(vec![(1, 5.), (2, -100.)]).apply(&logits, &[]).unwrap();
        assert_eq!(biased.to_vec1::<f32>().unwrap(), [1., 7., -97.]);
    }
}
