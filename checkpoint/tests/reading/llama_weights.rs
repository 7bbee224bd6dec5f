//! Weights of the Llama family that deviate from docs/spec.md#tensors and are accepted.

use colm_checkpoint::{ChainCount, CheckpointError, Dtype, Projection, Source, TensorId};
use serde_json::{json, Value};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{config_json, fill, parse, place, with, Tensor};

const FILE: &str = "model.safetensors";

/// A folder of the model of `config`, whose values encode their positions, with tensors changed or left out.
fn folder(
    config: &Value,
    kept: impl Fn(&TensorId) -> bool,
    value: impl Fn(&TensorId, usize, usize) -> f32,
) -> Folder {
    // The equivalent CoLM determines which tensors there are.
    let one_chain = parse(with(config_json(), |json| {
        json["chains"] = json!([1]);
        json["attention_bias"] = json!(config["model_type"] == "qwen2");
    }));
    let tensors = one_chain.tensor_ids().filter(kept).map(|id| {
        let shape = one_chain.dense_shapes(id).remove(0);
        let tensor: Tensor = fill(Dtype::F16, &shape, |row, column| value(&id, row, column));
        (id.dense_name(), tensor)
    });
    let folder = Folder::with_config(config);
    safetensors::serialize_to_file(tensors, None, &folder.path(FILE)).unwrap();
    folder
}

fn of_family(model_type: &str, architecture: &str) -> Value {
    with(config_json(), |json| {
        json.as_object_mut().unwrap().remove("chains");
        json["model_type"] = json!(model_type);
        json["architectures"] = json!([architecture]);
    })
}

#[test]
fn qwen2_has_no_bias_on_o_and_gets_zeros() {
    let is_o_bias = |id: &TensorId| matches!(id, TensorId::Bias { projection: Projection::O, .. });
    let config = of_family("qwen2", "Qwen2ForCausalLM");
    let folder = folder(&config, |id| !is_o_bias(id), |_, row, column| place(row, column));
    let source = Source::open(&folder.dir).unwrap();
    let biases = source.config().tensors(ChainCount::ONE).filter(|tensor| is_o_bias(&tensor.id));
    let biases: Vec<_> = biases.collect();
    assert_eq!(biases.len(), 2);
    for bias in &biases {
        let block = source.tensor(bias).unwrap();
        assert_eq!((block.dtype(), block.shape()), (Dtype::F16, &[16][..]));
        assert_eq!(*block.bytes(), [0; 32]);
    }
    let q = source
        .config()
        .tensors(ChainCount::ONE)
        .find(|tensor| matches!(tensor.id, TensorId::Bias { projection: Projection::Q, .. }));
    let expected = fill(Dtype::F16, &[32], place);
    assert_eq!(source.tensor(&q.unwrap()).unwrap().bytes(), expected.bytes);
    assert_eq!(folder.problems(), [""; 0]);
}

#[test]
fn a_bias_on_qwen2s_o_is_an_error() {
    let config = of_family("qwen2", "Qwen2ForCausalLM");
    let folder = folder(&config, |_| true, |_, row, column| place(row, column));
    let error = Source::open(&folder.dir).unwrap_err();
    assert!(matches!(error, CheckpointError::UnexpectedTensor { .. }), "{error}");
    assert!(error.to_string().contains("o_proj.bias"), "{error}");
}

#[test]
fn a_tied_head_may_be_stored_if_it_equals_the_embedding() {
    let config = with(of_family("llama", "LlamaForCausalLM"), |json| {
        json["tie_word_embeddings"] = json!(true);
    });
    let same = folder(&config, |_| true, |_, row, column| place(row, column));
    assert_eq!(same.problems(), [""; 0]);
    let source = Source::open(&same.dir).unwrap();
    assert!(source.config().tensors(ChainCount::ONE).all(|tensor| tensor.id != TensorId::Head));

    let other = folder(
        &config,
        |_| true,
        |id, row, column| {
            place(row, column)
                + f32::from(u8::from(*id == TensorId::Head && (row, column) == (10, 15)))
        },
    );
    let error = Source::open(&other.dir).unwrap_err();
    assert!(matches!(error, CheckpointError::UntiedHead { .. }), "{error}");
    other.one_problem(&["lm_head.weight", FILE, "`tie_word_embeddings`"]);
}

#[test]
fn a_tensor_of_another_model_is_an_error() {
    let folder = folder(
        &of_family("llama", "LlamaForCausalLM"),
        |_| true,
        |_, row, column| place(row, column),
    );
    let source = Source::open(&folder.dir).unwrap();
    let config = parse(config_json());
    for tensor in config.tensors(config.all_chains()) {
        assert_eq!(
            source.tensor(&tensor).is_ok(),
            source.config().tensors(ChainCount::ONE).any(|own| own == tensor)
        );
    }
}
