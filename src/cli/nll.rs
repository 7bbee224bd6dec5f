//! Negative log-likelihood.

/// The accumulated negative log-likelihood of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nll {
    /// The number of tokens.
    pub tokens: usize,
    /// The sum, in nats.
    pub sum: f64,
}

impl Nll {
    /// Adds tokens with these log-probabilities.
    pub fn add(&mut self, logprobs: &[f64]) {
        self.tokens += logprobs.len();
        self.sum -= logprobs.iter().sum::<f64>();
    }

    /// The mean, in nats per token.
    pub fn mean(&self) -> f64 {
        self.sum / self.tokens as f64
    }

    /// The perplexity: exp of the mean.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_hand_computed_values() {
        let mut nll = Nll::default();
        // Token 1 of softmax([0, ln 3]), token 0 of softmax([ln 7, 0])
        nll.add(&[(3. / 4f64).ln(), (7. / 8f64).ln()]);
        assert!((nll.mean() + (21. / 32f64).ln() / 2.).abs() < 1e-12);
        assert!((nll.perplexity() - (32. / 21f64).sqrt()).abs() < 1e-12);
    }
}
