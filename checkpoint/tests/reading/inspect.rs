//! The cost of k chains, compared with numbers computed by hand.

use colm_checkpoint::inspect::{inspect, Cost, Inspection};
use colm_checkpoint::Dtype;
use serde_json::json;

use crate::folder::Folder;
use colm_testing::small_checkpoint::{air_json, config_json, parse, with, write_chains};

// The configs: vocabulary 11, 2 layers, chains 2:1:1, so hidden 8, 4, 4; intermediate 12, 6, 6; query
// heads 4, 2, 2 of dimension 4, columns 16, 8, 8. Elements of a layer's matrices per chain:
//            q              k and v        o              gate and up    down
// CoLM, kv heads 2, 1, 1 (columns 8, 4, 4):
//   chain 1  16*8 = 128     8*8 = 64       8*16 = 128     12*8 = 96      8*12 = 96    -> 672
//   chain 2  8*12 = 96      4*12 = 48      4*24 = 96      6*12 = 72      4*18 = 72    -> 504
//   chain 3  8*16 = 128     4*16 = 64      4*32 = 128     6*16 = 96      4*24 = 96    -> 672
// Air, 2 kv heads in chain 1: chain 1 the same 672; chain 2 504 - 96 = 408; chain 3 672 - 128 = 544.
// Each chain also has 5 norms (2 in each of 2 layers, and the final one), 5 * hidden, and embedding and head, 11 *
// hidden each: 27 * 8 = 216, 27 * 4 = 108, 108.

fn costs(found: &Inspection) -> Vec<[u128; 5]> {
    let row = |cost: &Cost| {
        [
            cost.parameters,
            cost.memory_bytes,
            cost.kv_bytes_per_token,
            cost.prompt_multiply_adds,
            cost.decode_multiply_adds,
        ]
    };
    found.costs.iter().map(row).collect()
}

#[test]
fn colms_prompts_go_through_all_chains() {
    let found = inspect(&Folder::with_config(&config_json()).dir).unwrap();
    // KV: 2 of 2 layers of 4 elements of 4 bytes, for 2, 3 and 4 heads.
    let expected = [
        [1344 + 216, 4 * 1560, 128, 1344, 1344 + 88],
        [1560 + 1008 + 108, 4 * 2676, 192, 2352, 2352 + 132],
        [2676 + 1344 + 108, 4 * 4128, 256, 3696, 3696 + 176],
    ];
    assert_eq!(costs(&found), expected);
    assert_eq!((found.layout, found.dtype.as_str()), (None, "F32"));
    assert!(found.costs.iter().all(|cost| cost.files.is_none() && cost.disk_bytes.is_none()));
    assert_eq!(found.widths[1].kv_heads, 1);
}

#[test]
fn airs_prompts_go_through_chain_1_at_every_k() {
    let json = with(air_json(), |json| json["torch_dtype"] = json!("bfloat16"));
    let found = inspect(&Folder::with_config(&json).dir).unwrap();
    let expected = [
        [1344 + 216, 2 * 1560, 128, 1344, 1344 + 88],
        [1560 + 816 + 108, 2 * 2484, 128, 1344, 2160 + 132],
        [2484 + 1088 + 108, 2 * 3680, 128, 1344, 3248 + 176],
    ];
    assert_eq!(costs(&found), expected);
    assert_eq!([found.widths[0].kv_heads, found.widths[1].kv_heads], [2, 0]);
}

#[test]
fn the_dtype_of_the_config_counts_without_weights() {
    for (dtype, bytes) in [("float16", 2), ("bfloat16", 2), ("float32", 4)] {
        let json = with(config_json(), |json| json["torch_dtype"] = json!(dtype));
        let found = inspect(&Folder::with_config(&json).dir).unwrap();
        assert_eq!(found.costs[0].memory_bytes, bytes * 1560, "{dtype}");
    }
}

/// In each layer one norm of 4 for the query heads of every chain, and one for its key heads, if it has some.
#[test]
fn query_and_key_norms_are_counted() {
    for (json, more) in [(config_json(), [16, 32, 48]), (air_json(), [16, 24, 32])] {
        let without = inspect(&Folder::with_config(&json).dir).unwrap();
        let json = with(json, |json| json["qk_norm"] = json!(true));
        let found = inspect(&Folder::with_config(&json).dir).unwrap();
        let parameters = |found: &Inspection| -> Vec<u128> {
            found.costs.iter().map(|cost| cost.parameters).collect()
        };
        let pairs = parameters(&found).into_iter().zip(parameters(&without));
        assert_eq!(pairs.map(|(found, without)| found - without).collect::<Vec<_>>(), more);
    }
}

/// Chains of 64 and 32 hidden elements: all matrices hold whole blocks of 32, and none whole blocks of 256.
#[test]
fn quantized_weights_have_the_bytes_of_their_blocks() {
    let json = with(config_json(), |json| {
        json["chains"] = json!([2, 1]);
        json["hidden_size"] = json!(96);
        json["intermediate_size"] = json!(96);
        json["num_attention_heads"] = json!(6);
        json["num_key_value_heads"] = json!(3);
        json["head_dim"] = json!(16);
        json["num_hidden_layers"] = json!(1);
    });
    let found = inspect(&Folder::with_config(&json).dir).unwrap();
    // Chain 1: q and o 64*64, k and v 32*64, gate, up and down 64*64; chain 2: 32 or 16 rows of 96. Heads of 11 rows.
    let (one, two) = (5u128 * 64 * 64 + 2 * 32 * 64, (5u128 * 32 + 2 * 16) * 96);
    let floats = |hidden: u128| 4 * (11 * hidden + 3 * hidden);
    for (name, bytes_per_32) in [("q8_0", 34), ("q4k", 20), ("q6k", 24)] {
        let first = floats(64) + (one + 11 * 64) / 32 * bytes_per_32;
        let both = first + floats(32) + (two + 11 * 32) / 32 * bytes_per_32;
        let found = [0, 1].map(|k: usize| found.costs[k].quantized_bytes[name]);
        assert_eq!(found, [first, both], "{name}");
    }
}

#[test]
fn a_tied_head_is_multiplied_but_stored_once() {
    let tied = with(config_json(), |json| json["tie_word_embeddings"] = json!(true));
    let found = inspect(&Folder::with_config(&tied).dir).unwrap();
    assert_eq!(found.costs[0].parameters, 1344 + 216 - 88);
    assert_eq!(found.costs[0].decode_multiply_adds, 1344 + 88);
}

#[test]
fn a_device_may_hold_the_first_files_only() {
    let folder = Folder::chains();
    let whole = inspect(&folder.dir).unwrap();
    let file = |i| format!("model-chain-0000{i}-of-00003.safetensors");
    let bytes = |i| std::fs::metadata(folder.path(&file(i))).unwrap().len();
    assert_eq!(whole.layout, Some("chains"));
    assert_eq!(whole.costs[2].disk_bytes, Some(bytes(1) + bytes(2) + bytes(3)));
    assert_eq!(whole.costs[1].files, Some(vec![file(1), file(2)]));
    assert_eq!(whole.dtypes["F32"], 4128);

    std::fs::remove_file(folder.path(&file(3))).unwrap();
    let part = inspect(&folder.dir).unwrap();
    assert_eq!(part.costs[1], whole.costs[1]);
    assert_eq!(part.costs[2].files, None);
    assert_eq!(costs(&part), costs(&whole));
    assert_eq!(part.dtypes["F32"], 2676);
}

#[test]
fn any_number_of_the_first_files_may_be_there() {
    let json = with(config_json(), |json| {
        json["chains"] = json!([1, 1, 1, 1, 1, 1, 1, 1]);
        json["num_key_value_heads"] = json!(8);
        json["intermediate_size"] = json!(32);
    });
    let folder = Folder::filled(|dir| write_chains(dir, &parse(json), Dtype::F32));
    for present in (1..8).rev() {
        let last = format!("model-chain-0000{}-of-00008.safetensors", present + 1);
        std::fs::remove_file(folder.path(&last)).unwrap();
        let found = inspect(&folder.dir).unwrap();
        let files = found.costs.iter().map(|cost| cost.files.as_ref().map(Vec::len));
        let expected = (1..=8).map(|k| (k <= present).then_some(k));
        assert!(files.eq(expected), "{present} files");
    }
}

#[test]
fn a_dense_layout_needs_its_file_at_every_k() {
    let folder = Folder::dense();
    let found = inspect(&folder.dir).unwrap();
    let bytes = std::fs::metadata(folder.path("model.safetensors")).unwrap().len();
    assert!(found.costs.iter().all(|cost| cost.disk_bytes == Some(bytes)));
    assert_eq!(found.costs[0].memory_bytes, 4 * 1560);
    assert_eq!(found.layout, Some("dense"));
}

#[test]
fn the_largest_config_that_is_allowed_is_counted_without_overflow() {
    let most = i32::MAX - 1; // even, for RoPE
    let json = with(config_json(), |json| {
        json["chains"] = json!([1]);
        for field in ["hidden_size", "intermediate_size", "vocab_size"] {
            json[field] = json!(most);
        }
        json["num_hidden_layers"] = json!(10_000);
        json["num_attention_heads"] = json!(1);
        json["num_key_value_heads"] = json!(1);
        json["head_dim"] = json!(most);
    });
    let found = inspect(&Folder::with_config(&json).dir).unwrap();
    let most = most as u128;
    // q, k, v, o, gate, up, down; two norms in each layer; embedding and head; the last norm.
    let expected = 10_000 * (7 * most * most + 2 * most) + 2 * most * most + most;
    assert_eq!(found.costs[0].parameters, expected);
}

#[test]
fn the_json_has_the_documented_fields() {
    let found = serde_json::to_value(inspect(&Folder::chains().dir).unwrap()).unwrap();
    assert_eq!(found["architecture"], "CoLMForCausalLM");
    assert_eq!(found["chains"], json!([2, 1, 1]));
    assert_eq!(found["widths"][0]["intermediate"], 12);
    assert_eq!(found["costs"][0]["kv_bytes_per_token"], 128);
    assert_eq!(found["costs"][2]["files"].as_array().unwrap().len(), 3);
}
