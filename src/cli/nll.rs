//! Negative log-likelihood of tokens.

/// The negative log-likelihoods of several tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nll {
    /// Tokens predicted.
    pub tokens: usize,
    /// The sum, in nats.
    pub sum: f64,
}

impl Nll {
    /// Adds tokens of these log-probabilities.
    pub fn add(&mut self, logprobs: &[f64]) {
        self.tokens += logprobs.len();
        self.sum -= logprobs.iter().sum::<f64>();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_hand_numbers() {
        let mut nll = Nll::default();
        // Token 1 of softmax([0, ln 3]), token 0 of softmax([ln 7, 0])
        nll.add(&[(3. / 4f64).ln(), (7. / 8f64).ln()]);
        assert!((nll.mean() + (21. / 32f64).ln() / 2.).abs() < 1e-12);
        assert!((nll.perplexity() - (32. / 21f64).sqrt()).abs() < 1e-12);
    }
}
