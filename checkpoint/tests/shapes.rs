//! docs/shapes.md: useful chains for public models, as `expand --add` finds them.
//!
//! `COLM_UPDATE_DOCS=1 cargo test -p colm-checkpoint --test shapes` writes the table again.

use std::fs;
use std::path::Path;

use colm_checkpoint::convert::{expanded_config, nearest_chain, Growth};
use colm_checkpoint::{Architecture, ColmConfig, ConfigFile};

const BEGIN: &str = "<!-- written by checkpoint/tests/shapes.rs -->\n";
const END: &str = "<!-- end of table -->\n";

/// The shares of parameters in the table.
const SHARES: [f64; 3] = [0.1, 0.25, 0.5];

/// Name; hidden size, intermediate size, layers, query heads, key/value heads, head_dim, vocabulary; tied embeddings,
/// biases of q, k and v, norms of heads. From the models' config.json.
type Shape = (&'static str, [usize; 7], [bool; 3]);

const LLAMA: [bool; 3] = [false, false, false];
const TIED: [bool; 3] = [true, false, false];
const QWEN2: [bool; 3] = [false, true, false];
const QWEN2_TIED: [bool; 3] = [true, true, false];
const QWEN3: [bool; 3] = [false, false, true];
const QWEN3_TIED: [bool; 3] = [true, false, true];

const MODELS: [Shape; 12] = [
    ("Llama-3.2-1B", [2048, 8192, 16, 32, 8, 64, 128_256], TIED),
    ("Llama-3.2-3B", [3072, 8192, 28, 24, 8, 128, 128_256], TIED),
    ("Llama-3.1-8B", [4096, 14_336, 32, 32, 8, 128, 128_256], LLAMA),
    ("Mistral-7B-v0.3", [4096, 14_336, 32, 32, 8, 128, 32_768], LLAMA),
    ("Qwen2.5-0.5B", [896, 4864, 24, 14, 2, 64, 151_936], QWEN2_TIED),
    ("Qwen2.5-1.5B", [1536, 8960, 28, 12, 2, 128, 151_936], QWEN2_TIED),
    ("Qwen2.5-3B", [2048, 11_008, 36, 16, 2, 128, 151_936], QWEN2_TIED),
    ("Qwen2.5-7B", [3584, 18_944, 28, 28, 4, 128, 152_064], QWEN2),
    ("Qwen3-0.6B", [1024, 3072, 28, 16, 8, 128, 151_936], QWEN3_TIED),
    ("Qwen3-1.7B", [2048, 6144, 28, 16, 8, 128, 151_936], QWEN3_TIED),
    ("Qwen3-4B", [2560, 9728, 36, 32, 8, 128, 151_936], QWEN3_TIED),
    ("Qwen3-8B", [4096, 12_288, 36, 32, 8, 128, 151_936], QWEN3),
];

fn config((_, sizes, flags): &Shape) -> ColmConfig {
    let [hidden, intermediate, layers, heads, kv_heads, head_dim, vocab] = *sizes;
    let [tie_word_embeddings, attention_bias, qk_norm] = *flags;
    ColmConfig::new(ConfigFile {
        vocab_size: vocab,
        hidden_size: hidden,
        intermediate_size: intermediate,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: Some(kv_heads),
        head_dim: Some(head_dim),
        max_position_embeddings: 32_768,
        tie_word_embeddings,
        attention_bias,
        qk_norm,
        ..ConfigFile::new(Architecture::Colm, vec![1])
    })
    .unwrap()
}

fn table() -> String {
    let mut lines = vec![
        "| model | parameters | asked | `--add` | adds | fits K-quants |".to_string(),
        "|---|---:|---:|---|---:|---|".to_string(),
    ];
    for model in &MODELS {
        let base = config(model);
        let parameters = base.parameters(base.all_chains());
        for share in SHARES {
            let chain = nearest_chain(&base, Architecture::ColmAir, parameters, share).unwrap();
            let growth = Growth::Widths(vec![chain]);
            let grown = expanded_config(&base, &growth, Architecture::ColmAir).unwrap();
            let added = grown.parameters(grown.all_chains()) - parameters;
            let columns = [
                grown.hidden.total(),
                grown.intermediate.total(),
                grown.heads.total() * grown.head_dim,
            ];
            let aligned = columns.iter().all(|width| width.is_multiple_of(256));
            lines.push(format!(
                "| {} | {:.2} G | {:.0} % | `{chain}` | {:.1} % | {} |",
                model.0,
                parameters as f64 / 1e9,
                100. * share,
                100. * added as f64 / parameters as f64,
                if aligned { "yes" } else { "no" },
            ));
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_document_has_the_chains_that_are_found() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/shapes.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the begin of the table");
    let (found, after) = rest.split_once(END).expect("the end of the table");
    let expected = table();
    if std::env::var_os("COLM_UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(found == expected, "{} is not up to date: run with COLM_UPDATE_DOCS=1", path.display());
}
