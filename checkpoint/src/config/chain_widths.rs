//! Widths whose chains have sizes of their own (`docs/spec.md#chains`).

use serde::{Deserialize, Serialize};

use super::chains::{Chains, Split};
use super::error::{invalid, ConfigError};
use crate::text::abbreviate_list;

/// The field `chain_widths` of config.json: per width, its share of every chain, chain 1 first. A width without an
/// entry is split by `chains`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChainWidths {
    /// The shares of `hidden_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<Vec<usize>>,
    /// The shares of `intermediate_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<Vec<usize>>,
    /// The shares of `num_attention_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<Vec<usize>>,
    /// The shares of `num_key_value_heads`; in Air all of them belong to chain 1, and the others have 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<Vec<usize>>,
}

impl ChainWidths {
    /// Keeps the shares of the first `k` chains.
    pub(crate) fn truncate(&mut self, k: usize) {
        let widths = [
            &mut self.hidden_size,
            &mut self.intermediate_size,
            &mut self.num_attention_heads,
            &mut self.num_key_value_heads,
        ];
        widths.into_iter().flatten().for_each(|shares| shares.truncate(k));
    }
}

/// Splits `width` over `chains`: into `shares`, if config.json gives them, else in the proportions of `chains`. Errors
/// call the width `field`.
pub(super) fn split(
    chains: &Chains,
    field: &'static str,
    width: usize,
    shares: Option<&[usize]>,
) -> Result<Split, ConfigError> {
    let Some(shares) = shares else { return chains.split(field, width) };
    check(chains, field, width, shares)?;
    match shares.iter().position(|&share| share == 0) {
        Some(chain) => {
            let expected = format!("chain {} has a share of 0; expected at least 1", chain + 1);
            Err(refused(field, shares, expected))
        }
        None => Ok(Split::of_shares(shares)),
    }
}

/// Air's key/value heads: `width` in chain 1. `shares` may say so too.
pub(super) fn all_in_first(
    chains: &Chains,
    field: &'static str,
    width: usize,
    shares: Option<&[usize]>,
) -> Result<Split, ConfigError> {
    if let Some(shares) = shares {
        check(chains, field, width, shares)?;
        if let Some(chain) = shares.iter().skip(1).position(|&share| share > 0) {
            let expected = format!(
                "chain {} has a share of its own; in CoLM-Air chain 1 owns all key/value heads: expected {width}, and \
                 0 for every other chain",
                chain + 2
            );
            return Err(refused(field, shares, expected));
        }
    }
    Ok(Split::all_in_first(width, chains.count()))
}

/// Fails unless there is one share per chain and they sum to `width`.
fn check(
    chains: &Chains,
    field: &'static str,
    width: usize,
    shares: &[usize],
) -> Result<(), ConfigError> {
    if shares.len() != chains.count() {
        let expected = format!("expected {} entries, one per chain", chains.count());
        return Err(refused(field, shares, expected));
    }
    let sum = shares.iter().try_fold(0usize, |sum, &share| sum.checked_add(share));
    if sum != Some(width) {
        return Err(refused(field, shares, format!("expected a sum of `{field}` = {width}")));
    }
    Ok(())
}

fn refused(field: &'static str, shares: &[usize], expected: String) -> ConfigError {
    invalid(&format!("chain_widths.{field}"), &abbreviate_list(shares), expected)
}
