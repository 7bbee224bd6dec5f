//! Which relative sizes the chains of an expanded model can have.

use thiserror::Error;

use crate::config::{Architecture, ColmConfig};

/// Relative sizes by which a new chain would not get a whole share of a width.
#[derive(Clone, Debug, Error, PartialEq)]
#[error(
    "`{field}`: chains {asked:?} would give chain {chain} a size of {}, but it needs {needed}; \
     the nearest possible ratios are {nearest:?}",
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
    /// The nearest relative sizes that are possible.
    pub nearest: Vec<usize>,
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

/// Checks that every new chain gets a whole share of every width of `base`.
pub(super) fn check_shares(
    base: &ColmConfig,
    ratios: &[usize],
    architecture: Architecture,
) -> Result<(), Box<Indivisible>> {
    let count = base.chains.count();
    let old = ratios[..count].iter().sum::<usize>() as u128;
    // A chain of ratio c gets width * c / old, which must be a multiple of the unit.
    let (hidden, intermediate) = (base.hidden.total(), base.intermediate.total());
    let (heads, kv) = (base.heads.total(), base.kv_heads.total());
    let widths = match architecture {
        Architecture::Colm => vec![
            ("hidden_size", hidden, 1),
            ("intermediate_size", intermediate, 1),
            ("num_attention_heads", heads, 1),
            ("num_key_value_heads", kv, 1),
        ],
        Architecture::ColmAir => vec![
            ("hidden_size", hidden, 1),
            ("intermediate_size", intermediate, 1),
            ("num_attention_heads", heads, kv),
        ],
    };
    for (chain, &ratio) in ratios.iter().enumerate().skip(count) {
        for &(field, width, unit) in &widths {
            let (numerator, denominator) = reduced(width as u128 * ratio as u128, old);
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
                nearest: nearest(ratios, count, widths.iter().map(|(_, w, unit)| w / unit)),
            }));
        }
    }
    Ok(())
}

/// The ratios nearest to `ratios` with which every chain after the first `count` gets a whole share
/// of each of `widths`.
fn nearest(ratios: &[usize], count: usize, widths: impl Iterator<Item = usize>) -> Vec<usize> {
    // The base consists of `steps` equal parts, and a new chain can have any number of them.
    let steps = widths.fold(0, |steps, width| gcd(steps, width as u128));
    let old = ratios[..count].iter().sum::<usize>() as u128;
    let rounded = |ratio: usize| ((2 * ratio as u128 * steps + old) / (2 * old)).max(1);
    let in_steps: Vec<u128> = ratios.iter().map(|&ratio| rounded(ratio)).collect();
    let common = in_steps.iter().fold(0, |common, &steps| gcd(common, steps));
    in_steps.iter().map(|&steps| (steps / common) as usize).collect()
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
