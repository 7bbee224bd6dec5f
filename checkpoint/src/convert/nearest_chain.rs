//! The chain that comes nearest to a number of parameters.

use super::expand_error::ExpandError;
use super::growth::{expanded_config, smallest_head_group};
use super::new_chain::{Growth, NewChain};
use crate::config::{Architecture, ColmConfig};

/// The largest granularity of a width: 64 bf16 weights fill two cache lines, and 64 is a multiple of the 32 columns of a
/// packed panel and of the quant blocks of q8_0.
const MAX_UNIT: usize = 64;
/// The length of a quant block of the K-quants, which a matrix's inputs must be a multiple of.
const QUANT_BLOCK: usize = 256;
/// How much a total width that K-quants cannot hold counts against a candidate, as a relative deviation of its size.
const UNALIGNED: f64 = 0.03;
/// How much a chain of other proportions than the base counts, per factor of e.
const DISPROPORTION: f64 = 0.05;
/// The largest relative deviation of the size that is still an answer.
const TOLERANCE: f64 = 0.25;

/// A further chain for `base` that adds about `share` of `parameters` to it, in about the proportions of the base.
/// Its widths are multiples of 64 if the base is large enough, and total widths that are multiples of 256 are preferred,
/// because K-quants need them.
///
/// # Errors
/// If no chain comes within 25 % of the size, and those of [`expanded_config`].
pub fn nearest_chain(
    base: &ColmConfig,
    architecture: Architecture,
    parameters: u128,
    share: f64,
) -> Result<NewChain, ExpandError> {
    let target = parameters as f64 * share;
    let search = Search { base, architecture, target };
    let candidates = search.candidates()?;
    let best = candidates.into_iter().min_by(|one, other| one.cost.total_cmp(&other.cost));
    match best {
        Some(best) if (best.parameters / target - 1.0).abs() <= TOLERANCE => Ok(best.chain),
        best => Err(ExpandError::NoChainOfSize {
            percent: 100.0 * share,
            nearest: best.map(|best| (best.chain, 100.0 * best.parameters / parameters as f64)),
        }),
    }
}

struct Search<'a> {
    base: &'a ColmConfig,
    architecture: Architecture,
    /// The number of parameters to add.
    target: f64,
}

struct Candidate {
    chain: NewChain,
    parameters: f64,
    cost: f64,
}

impl Search<'_> {
    /// For hidden widths up to twice that of the base: the nearest numbers of heads, and the MLP widths that come
    /// nearest to the target.
    fn candidates(&self) -> Result<Vec<Candidate>, ExpandError> {
        let (hidden, heads) = (self.base.hidden.total(), self.base.heads.total());
        let (unit, mlp_unit) = (unit(hidden), unit(self.base.intermediate.total()));
        let head_unit = match self.architecture {
            Architecture::Colm => smallest_head_group(self.base).0,
            Architecture::ColmAir => self.base.kv_heads.total(),
        };
        let mut candidates = Vec::new();
        for width in (1..=2 * hidden / unit).map(|step| step * unit) {
            let head_units = (heads * width).div_ceil(hidden * head_unit);
            for head_units in [head_units.saturating_sub(1).max(1), head_units] {
                let chain = NewChain {
                    hidden: width,
                    heads: head_units * head_unit,
                    kv_heads: None,
                    intermediate: mlp_unit,
                };
                for intermediate in self.mlp_widths(chain, mlp_unit)? {
                    candidates.push(self.candidate(NewChain { intermediate, ..chain })?);
                }
            }
        }
        Ok(candidates)
    }

    /// The multiples of `unit`, and those that make the total a multiple of a quant block, around the MLP width with
    /// which `chain` has the target's size. Its size is linear in that width.
    fn mlp_widths(&self, chain: NewChain, unit: usize) -> Result<Vec<usize>, ExpandError> {
        let one = self.parameters(chain)?;
        let two = self.parameters(NewChain { intermediate: 2 * unit, ..chain })?;
        let steps = 1.0 + (self.target - one) / (two - one);
        let exact = steps.clamp(1.0, 1e6) as usize * unit;
        let old = self.base.intermediate.total();
        let aligned = (old + exact).next_multiple_of(QUANT_BLOCK) - old;
        let widths = [exact, exact + unit, aligned, aligned.saturating_sub(QUANT_BLOCK)];
        Ok(widths.into_iter().filter(|&width| width > 0 && width.is_multiple_of(unit)).collect())
    }

    /// The parameters that `chain` adds.
    fn parameters(&self, chain: NewChain) -> Result<f64, ExpandError> {
        let growth = Growth::Widths(vec![chain]);
        let grown = expanded_config(self.base, &growth, self.architecture)?;
        let of = |config: &ColmConfig| config.parameters(config.all_chains());
        Ok((of(&grown) - of(self.base)) as f64)
    }

    fn candidate(&self, chain: NewChain) -> Result<Candidate, ExpandError> {
        let base = self.base;
        let parameters = self.parameters(chain)?;
        let widths = [
            (base.hidden.total(), chain.hidden, 1),
            (base.intermediate.total(), chain.intermediate, 1),
            (base.heads.total(), chain.heads, base.head_dim),
        ];
        let mut cost = (parameters / self.target).ln().abs();
        let relative = |old: usize, new: usize| new as f64 / old as f64;
        let hidden = relative(widths[0].0, widths[0].1);
        for (old, new, scale) in widths {
            cost += DISPROPORTION * (relative(old, new) / hidden).ln().abs();
            if !((old + new) * scale).is_multiple_of(QUANT_BLOCK) {
                cost += UNALIGNED;
            }
        }
        Ok(Candidate { chain, parameters, cost })
    }
}

/// The granularity for a width of `total`: at least eight steps, in powers of two up to 64.
fn unit(total: usize) -> usize {
    let largest = (total / 8).clamp(1, MAX_UNIT);
    1 << largest.ilog2()
}
