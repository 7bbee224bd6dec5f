//! Which relative sizes the chains of an expanded model can have.

use thiserror::Error;

use crate::config::{Architecture, Chains, ColmConfig};

/// Relative sizes by which a new chain would not get a whole share of a width.
#[derive(Clone, Debug, Error, PartialEq)]
#[error(
    "`{field}`: chains {asked:?} would give chain {chain} a size of {}, but it needs {needed}",
    Quotient(*.share)
)]
#[non_exhaustive]
pub struct Indivisible {
    /// The field of the width.
    pub field: &'static str,
    /// The relative sizes that were asked for.
    pub asked: Vec<usize>,
    /// The chain, from 1.
    pub chain: usize,
    /// The share of the chain, as numerator and denominator.
    pub share: (u128, u128),
    /// What the share must be.
    pub needed: String,
}

/// The relative sizes nearest to others that are not possible.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestRatios {
    /// The relative sizes. Those of the base are first, in their own proportions.
    pub chains: Vec<usize>,
    /// The number of parameters of the model with these sizes.
    pub parameters: u128,
}

/// A fraction, displayed as a whole number if it is one.
struct Quotient((u128, u128));

impl std::fmt::Display for Quotient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (numerator, denominator) = self.0;
        match numerator % denominator {
            0 => write!(f, "{}", numerator / denominator),
            _ => write!(f, "{numerator}/{denominator}"),
        }
    }
}

/// Whether the first of `ratios` have the proportions of `base`.
pub(super) fn starts_with(ratios: &[usize], base: &[usize]) -> bool {
    let product = |a: usize, b: usize| a as u128 * b as u128;
    let same =
        |(&asked, &own): (&usize, &usize)| product(asked, base[0]) == product(own, ratios[0]);
    ratios.len() >= base.len() && ratios.iter().zip(base).all(same)
}

/// A width of the base that every new chain gets a share of.
struct Width {
    field: &'static str,
    total: usize,
    /// What the share must be a multiple of.
    unit: usize,
}

fn widths(base: &ColmConfig, architecture: Architecture) -> Vec<Width> {
    let width = |field, total, unit| Width { field, total, unit };
    let kv_heads = base.kv_heads.total();
    let mut widths = vec![
        width("hidden_size", base.hidden.total(), 1),
        width("intermediate_size", base.intermediate.total(), 1),
    ];
    match architecture {
        Architecture::Colm => widths.extend([
            width("num_attention_heads", base.heads.total(), 1),
            width("num_key_value_heads", kv_heads, 1),
        ]),
        Architecture::ColmAir => {
            widths.push(width("num_attention_heads", base.heads.total(), kv_heads));
        }
    }
    widths
}

/// Checks that every new chain gets a whole share of every width of `base`.
pub(super) fn check_shares(
    base: &ColmConfig,
    ratios: &[usize],
    architecture: Architecture,
) -> Result<(), Box<Indivisible>> {
    let count = base.chains.count();
    let old = ratios[..count].iter().sum::<usize>() as u128;
    let widths = widths(base, architecture);
    for (chain, &ratio) in ratios.iter().enumerate().skip(count) {
        for &Width { field, total, unit } in &widths {
            let (numerator, denominator) = reduced(total as u128 * ratio as u128, old);
            if denominator == 1 && numerator % unit as u128 == 0 {
                continue;
            }
            let needed = match unit {
                1 => "a whole number of at least 1".into(),
                _ => format!("a multiple of the {unit} key/value heads of chain 1"),
            };
            return Err(Box::new(Indivisible {
                field,
                asked: ratios.to_vec(),
                chain: chain + 1,
                share: (numerator, denominator),
                needed,
            }));
        }
    }
    Ok(())
}

/// The ratios nearest to `ratios` with which every new chain gets a whole share of every width of `base`, whose own
/// proportions stay. None if they cannot be written as ratios.
pub(super) fn nearest(
    base: &ColmConfig,
    ratios: &[usize],
    architecture: Architecture,
) -> Option<Chains> {
    // The base consists of `steps` equal parts, and a new chain can have any number of them.
    let widths = widths(base, architecture);
    let units = widths.iter().map(|width| (width.total / width.unit) as u128);
    let steps = units.fold(0, gcd);
    let (own, new) = ratios.split_at(base.chains.count());
    let old = own.iter().sum::<usize>() as u128;
    let rounded = |ratio: usize| ((2 * ratio as u128 * steps + old) / (2 * old)).max(1);
    // A part is `old` in the unit in which the base is `steps * old`.
    let own = own.iter().map(|&ratio| ratio as u128 * steps);
    let in_parts: Vec<u128> = own.chain(new.iter().map(|&ratio| rounded(ratio) * old)).collect();
    let common = in_parts.iter().copied().fold(0, gcd);
    let whole = in_parts.iter().map(|&size| usize::try_from(size / common).ok());
    Chains::new(whole.collect::<Option<_>>()?).ok()
}

fn reduced(numerator: u128, denominator: u128) -> (u128, u128) {
    let common = gcd(numerator, denominator);
    (numerator / common, denominator / common)
}

pub(super) fn gcd(a: u128, b: u128) -> u128 {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}
