//! Ratios that are not possible, and those that the error suggests.

use std::fs;

use colm_checkpoint::convert::{expanded_config, ExpandError, Growth, NearestRatios};
use colm_checkpoint::{Architecture, Chains, ColmConfig, Dtype};
use serde_json::{json, Value};

use crate::model::assert_error;
use colm_testing::small_checkpoint::{air_json, config_json, parse, with, write_chains};

/// The ratios that the error for `asked` suggests; None if `asked` is possible.
fn suggested(
    base: &ColmConfig,
    asked: &[usize],
    architecture: Architecture,
) -> Option<Option<NearestRatios>> {
    match expand(base, asked, architecture) {
        Err(ExpandError::Indivisible { nearest, .. }) => Some(nearest),
        possible => possible.map(|_| None).unwrap(),
    }
}

fn expand(
    base: &ColmConfig,
    ratios: &[usize],
    architecture: Architecture,
) -> Result<ColmConfig, ExpandError> {
    let growth = Growth::Ratios(Chains::new(ratios.to_vec()).unwrap());
    expanded_config(base, &growth, architecture)
}

/// A CoLM with chains of their own widths, by `chains`, `hidden_size`, `intermediate_size` and the heads.
fn base(chains: Value, widths: [&[usize]; 3]) -> ColmConfig {
    let [hidden, intermediate, heads] = widths;
    let sum = |shares: &[usize]| json!(shares.iter().sum::<usize>());
    parse(with(config_json(), |json| {
        json["chains"] = chains;
        json["hidden_size"] = sum(hidden);
        json["intermediate_size"] = sum(intermediate);
        json["num_attention_heads"] = sum(heads);
        json["num_key_value_heads"] = sum(heads);
        json["head_dim"] = json!(4);
        json["chain_widths"] = json!({
            "hidden_size": hidden, "intermediate_size": intermediate,
            "num_attention_heads": heads, "num_key_value_heads": heads,
        });
    }))
}

#[test]
fn impossible_ratios_are_errors_that_suggest_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_chains(&dir.join("colm"), &parse(config_json()), Dtype::F32);
    write_chains(&dir.join("air"), &parse(air_json()), Dtype::F32);
    let cases = [
        ("colm", "1,1,1,1", &["do not begin with", "[2, 1, 1]"][..]),
        (
            "colm",
            "8,4,4,3",
            &["`intermediate_size`", "chain 4", "nearest", "[2, 1, 1, 1]", "parameters", "--add"],
        ),
        (
            "air",
            "4,2,2,1",
            &["`num_attention_heads`", "chain 4", "nearest", "[2, 1, 1, 1]", "parameters", "--add"],
        ),
    ];
    for (base, chains, words) in cases {
        assert_error(dir, &["expand", base, "big", "--chains", chains], words);
    }
    assert_error(
        dir,
        &["expand", "colm", "big", "--chains", "2,1,1,4", "--air"],
        &["CoLMForCausalLM"],
    );
    assert!(!dir.join("big").exists());
}

/// The chains of the base keep their own proportions, which need not divide any width.
#[test]
fn the_suggestion_begins_with_the_chains_of_the_base() {
    let unequal = base(json!([896, 129]), [&[896, 129], &[4864, 512], &[14, 2]]);
    let nearest = suggested(&unequal, &[896, 129, 129], Architecture::Colm).unwrap().unwrap();
    assert_eq!(nearest.chains, [896, 129, 1025]);
    let nearest = suggested(&unequal, &[1792, 258, 1000], Architecture::Colm).unwrap().unwrap();
    assert_eq!(nearest.chains, [896, 129, 1025]);
    // Of eight parts of the base a new chain can have any number.
    let in_parts = base(json!([5, 3]), [&[15, 9], &[10, 6], &[5, 3]]);
    let nearest = suggested(&in_parts, &[10, 6, 3, 9], Architecture::Colm).unwrap().unwrap();
    assert_eq!(nearest.chains, [5, 3, 2, 5]);
}

/// One that was not possible itself used to overflow the stack.
#[test]
fn every_suggestion_is_possible() {
    let bases = [
        base(json!([1, 1]), [&[2, 1], &[2, 2], &[1, 1]]),
        base(json!([896, 129]), [&[896, 129], &[4864, 512], &[14, 2]]),
        base(json!([2, 1]), [&[7, 5], &[9, 3], &[4, 2]]),
        base(json!([1]), [&[12], &[18], &[6]]),
        parse(config_json()),
        parse(air_json()),
    ];
    let (mut possible, mut impossible) = (0, 0);
    for base in &bases {
        let own = base.chains.ratios();
        for (scale, new) in (1..=5).flat_map(|scale| (1..=40).map(move |new| (scale, new))) {
            let mut asked: Vec<_> = own.iter().map(|ratio| scale * ratio).collect();
            asked.extend([new, 41 - new]);
            let Some(nearest) = suggested(base, &asked, base.architecture) else {
                possible += 1;
                continue;
            };
            let nearest = nearest.unwrap();
            let grown = expand(base, &nearest.chains, base.architecture).unwrap();
            assert_eq!(grown.parameters(grown.all_chains()), nearest.parameters, "{asked:?}");
            impossible += 1;
        }
    }
    assert!(possible > 20 && impossible > 200, "{possible} and {impossible}");
}

#[test]
fn without_possible_ratios_nothing_is_suggested() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let expand = ["expand", "base", "big", "--dry-run", "--chains"];
    let config = |json: Value| {
        fs::create_dir_all(dir.join("base")).unwrap();
        fs::write(dir.join("base/config.json"), json.to_string()).unwrap();
    };
    // A chain of the width of the base, which is the least that is possible, makes the model too wide.
    let prime = i32::MAX;
    config(with(config_json(), |json| {
        json["chains"] = json!([1]);
        json["vocab_size"] = json!(1);
        json["hidden_size"] = json!(prime);
        json["head_dim"] = json!(2);
    }));
    let words = ["`hidden_size`", "no ratios near these are possible; --add gives"];
    assert_error(dir, &[&expand[..], &["2,1"]].concat(), &words);
    // The chain of the base cannot be that of an Air.
    config(with(config_json(), |json| {
        json["chains"] = json!([1]);
        json["num_attention_heads"] = json!(3);
        json["num_key_value_heads"] = json!(2);
        json["head_dim"] = json!(4);
    }));
    let words = ["`num_attention_heads` = 3", "chain 1 has 3 heads", "the 2 key/value heads"];
    for chains in ["1,1", "2,1"] {
        assert_error(dir, &[&expand[..], &[chains, "--air"]].concat(), &words);
    }
}
