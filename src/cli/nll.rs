//! Negative log-likelihood of tokens under logits.

use anyhow::{Context, Result};
use candle_core::{Result as TensorResult, Tensor};
use std::ops::Range;

/// The negative log-likelihoods of several tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nll {
    /// Tokens predicted.
    pub tokens: usize,
    /// The sum, in nats.
    pub sum: f64,
}

impl Nll {
    /// Adds those of `tokens[scored]`; row t of `logits`, `[tokens, vocab_size]` f32, predicts token
    /// t + 1. Each of `scored` must have a token before it.
    pub fn add(&mut self, logits: &Tensor, tokens: &[u32], scored: Range<usize>) -> Result<()> {
        for at in scored {
            let row = row(logits, at - 1)?;
            let (token, vocab) = (tokens[at], row.len());
            self.sum += nll(&row, token).with_context(|| {
                format!("the tokenizer gives token {token}, and the model knows {vocab} tokens")
            })?;
            self.tokens += 1;
        }
        Ok(())
    }

    /// Nats per token.
    pub fn mean(&self) -> f64 {
        self.sum / self.tokens as f64
    }

    /// exp of the mean: among how many equally likely tokens the model is as unsure.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }
}

fn row(logits: &Tensor, index: usize) -> TensorResult<Vec<f32>> {
    logits.get(index)?.to_vec1()
}

/// -log softmax(logits)[token], in nats; None if there is no such token.
fn nll(logits: &[f32], token: u32) -> Option<f64> {
    let logit = f64::from(*logits.get(token as usize)?);
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    Some(largest + sum.ln() - logit)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn agrees_with_hand_numbers() {
        // softmax([0, ln 3]) = [1/4, 3/4]
        let logits = [0., 3f32.ln()];
        assert!((nll(&logits, 0).unwrap() - 4f64.ln()).abs() < 1e-7);
        assert!((nll(&logits, 1).unwrap() - (4. / 3f64).ln()).abs() < 1e-7);
        assert_eq!(nll(&logits, 2), None);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert!((nll(&[1000., 1000.], 1).unwrap() - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn each_row_predicts_the_next_token() {
        let ln = f32::ln;
        let rows = vec![ln(1.), ln(3.), ln(7.), ln(1.), ln(1.), ln(1.)];
        let logits = Tensor::from_vec(rows, (3, 2), &Device::Cpu).unwrap();
        let mut sum = Nll::default();
        sum.add(&logits, &[0, 1, 0], 1..3).unwrap();
        // 3/4 for token 1 from row 0, 7/8 for token 0 from row 1
        assert!((sum.mean() + (21. / 32f64).ln() / 2.).abs() < 1e-7);
        assert!((sum.perplexity() - (32. / 21f64).sqrt()).abs() < 1e-7);
    }

    #[test]
    fn a_token_without_a_logit_is_refused() {
        let logits = Tensor::zeros((1, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let refused = Nll::default().add(&logits, &[0, 9], 1..2).unwrap_err().to_string();
        assert!(refused.contains("token 9"), "{refused}");
    }
}
