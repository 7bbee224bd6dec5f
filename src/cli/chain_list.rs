//! Parses lists of chain counts: `--chains 1,2,4` and `--chains all`.

use colm::{parse_chain_count, ChainCount, Engine, ParseChainCountError};

/// Parses `list`. The order is kept; `all` means every chain count from 1 to the number of loaded chains.
pub fn parse_chain_list(
    list: &str,
    engine: &Engine,
) -> Result<Vec<ChainCount>, ParseChainCountError> {
    match list.trim() {
        "all" => Ok(engine.chain_counts().collect()),
        list => parse_list(list, engine.loaded_chains()),
    }
}

fn parse_list(list: &str, loaded: ChainCount) -> Result<Vec<ChainCount>, ParseChainCountError> {
    list.split(',').map(|text| parse_chain_count(text.trim(), loaded)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(k: usize) -> ChainCount {
        ChainCount::new(k, 4).unwrap()
    }

    #[test]
    fn a_list_keeps_its_order() {
        assert_eq!(parse_list("4, 1,2", k(4)), Ok([4, 1, 2].map(k).to_vec()));
        assert_eq!(parse_list("3", k(4)), Ok(vec![k(3)]));
    }

    #[test]
    fn errors_name_the_invalid_count() {
        for (list, text) in [("1,9", "9"), ("0", "0"), ("1,,2", ""), ("", ""), ("1,two", "two")] {
            let error = parse_list(list, k(4)).unwrap_err();
            assert_eq!(error, ParseChainCountError { text: text.into(), loaded: k(4) });
        }
    }
}
