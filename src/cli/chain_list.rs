//! `--chains 1,2,4` and `--chains all`.

use colm::host::chain_choice::{parse_chains, ChainsRefused};

/// The chain counts of `list`, in its order; `all` is 1 to `loaded`.
pub fn parse_chain_list(list: &str, loaded: usize) -> Result<Vec<usize>, ChainsRefused> {
    match list.trim() {
        "all" => Ok((1..=loaded).collect()),
        list => list.split(',').map(|asked| parse_chains(asked.trim(), loaded)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order() {
        assert_eq!(parse_chain_list("4, 1,2", 4), Ok(vec![4, 1, 2]));
        assert_eq!(parse_chain_list("3", 4), Ok(vec![3]));
    }

    #[test]
    fn all_is_every_count() {
        assert_eq!(parse_chain_list("all", 3), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (list, asked) in [("1,9", "9"), ("0", "0"), ("1,,2", ""), ("", ""), ("1,two", "two")] {
            let refused = parse_chain_list(list, 4).unwrap_err();
            assert_eq!(refused, ChainsRefused { asked: asked.into(), loaded: 4 });
        }
    }
}
