//! A simple choice of tokens: a full sort, in f64.

use mistralrs_core::ext::TokenChoice;

/// Weights that differ by less than this share may be in another order in the engine, which computes in f32.
const NEAR: f64 = 2e-6;

/// What may be drawn from some logits.
pub struct Reference {
    /// Relative probabilities of the tokens that must be kept.
    kept: Vec<f64>,
    /// Those of the tokens that may be kept or not: they are as near to a limit as f32 distinguishes.
    unclear: Vec<f64>,
}

impl Reference {
    /// With a temperature. `choice` must not be greedy.
    pub fn new(logits: &[f32], choice: &TokenChoice) -> Self {
        let temperature = choice.temperature.unwrap();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weigh = |&logit: &f32| ((f64::from(logit) - f64::from(largest)) / temperature).exp();
        let weights: Vec<f64> = logits.iter().map(weigh).collect();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Stable: of equal logits, smaller ids first.
        order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap());
        if choice.top_k > 0 {
            order.truncate(choice.top_k);
        }
        let total: f64 = weights.iter().sum();
        let limit = (0.0 < choice.top_p && choice.top_p < 1.).then_some(choice.top_p * total);
        let floor = (0.0 < choice.min_p && choice.min_p < 1.).then_some(choice.min_p);
        let mut reference = Self { kept: vec![0.; logits.len()], unclear: vec![0.; logits.len()] };
        let sums = sums_before(&order, logits, &weights);
        for (&token, (fewest, most)) in order.iter().zip(sums) {
            let weight = weights[token];
            // Exact limits, such as half of two equal tokens, are exact in the engine too.
            let slack = if fewest == most { 1e-12 } else { NEAR };
            let top_p =
                limit.map_or(Some(true), |limit| within(fewest, most, limit, slack * total));
            let min_p =
                floor.map_or(Some(true), |floor| within(floor, floor, weight, NEAR * weight));
            match (top_p, min_p) {
                (Some(true), Some(true)) => reference.kept[token] = weight,
                (Some(false), _) | (_, Some(false)) => {}
                _ => reference.unclear[token] = weight,
            }
        }
        reference
    }

    /// Asserts that `token` can be the choice for the random number `random`: the kept tokens are walked in the order
    /// of their ids.
    pub fn check(&self, token: u32, random: f64, case: &str) {
        let token = token as usize;
        let own = self.kept[token] + self.unclear[token];
        assert!(own > 0., "{case}: token {token} is not kept");
        let (kept, unclear): (f64, f64) = (self.kept.iter().sum(), self.unclear.iter().sum());
        let (before, unclear_before): (f64, f64) =
            (self.kept[..token].iter().sum(), self.unclear[..token].iter().sum());
        let slack = NEAR * (kept + unclear);
        let (least, most) = (random * kept, random * (kept + unclear));
        assert!(before <= most + slack, "{case}: token {token} is too late for {random}");
        let through = before + unclear_before + own;
        assert!(least <= through + slack, "{case}: token {token} is too early for {random}");
    }

    /// For each token that must be kept and is not too rare, a random number that draws it; nothing if it is unclear
    /// which tokens are kept.
    pub fn draws(&self) -> Vec<(usize, f64)> {
        if self.unclear.iter().any(|&weight| weight > 0.) {
            return Vec::new();
        }
        let total: f64 = self.kept.iter().sum();
        let mut before = 0.;
        let mut draws = Vec::new();
        for (token, &weight) in self.kept.iter().enumerate() {
            if weight > 4. * NEAR * total {
                draws.push((token, (before + weight / 2.) / total));
            }
            before += weight;
        }
        draws
    }
}

/// For each token of `order`, the least and the largest sum of the weights of the tokens before it: tokens with nearly
/// the same weight, but another logit, may come before it or after it.
fn sums_before(order: &[usize], logits: &[f32], weights: &[f64]) -> Vec<(f64, f64)> {
    let mut sums = vec![0.];
    for &token in order {
        sums.push(sums[sums.len() - 1] + weights[token]);
    }
    let weight = |at: usize| weights[order[at]];
    let logit = |at: usize| logits[order[at]];
    let (mut larger, mut not_smaller) = (0, 0);
    let bounds = (0..order.len()).map(|at| {
        // Those that are larger in any case, and those that are not smaller in any case.
        while larger < at && weight(larger) > weight(at) * (1. + NEAR) {
            larger += 1;
        }
        not_smaller = not_smaller.max(at + 1);
        while not_smaller < order.len() && weight(not_smaller) >= weight(at) * (1. - NEAR) {
            not_smaller += 1;
        }
        let only_ties = logit(larger) == logit(at) && logit(not_smaller - 1) == logit(at);
        if only_ties {
            (sums[at], sums[at])
        } else {
            (sums[larger], sums[not_smaller] - weight(at))
        }
    });
    bounds.collect()
}

/// Whether a sum between `fewest` and `most` is below `limit`; None if it is too near.
fn within(fewest: f64, most: f64, limit: f64, slack: f64) -> Option<bool> {
    if most + slack < limit {
        Some(true)
    } else if fewest - slack >= limit {
        Some(false)
    } else {
        None
    }
}
