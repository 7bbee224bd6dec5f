//! What is tested: random models of shapes that the kernels of a GPU take.

use candle_core::{DType, Device};
use colm_testing::random_model::{air, colm, with};
use colm_testing::standalone::Placement;
use serde_json::{json, Value};

/// Where the kernels run.
pub fn device() -> Device {
    match cfg!(feature = "cuda") {
        true => Device::new_cuda(0).expect("these tests run on a GPU"),
        false => Device::Cpu,
    }
}

/// On them, in `dtype`.
pub fn place(dtype: DType, block_size: usize) -> Placement {
    Placement { device: device(), dtype, block_size }
}

/// Chains of one head of 64 each, that share a key/value head.
pub fn air_64() -> Value {
    with(air(), |json| {
        json["hidden_size"] = 128.into();
        json["intermediate_size"] = 160.into();
        json["num_attention_heads"] = 4.into();
        json["num_key_value_heads"] = 1.into();
        json["head_dim"] = 64.into();
    })
}

/// Chains of one head of 32 each, with key/value heads of their own.
pub fn colm_32() -> Value {
    with(colm(), |json| {
        json["num_attention_heads"] = 4.into();
        json["head_dim"] = 32.into();
    })
}

/// Unequal chains, heads of 128, biases, and an embedding that is the head as well.
pub fn unequal_128() -> Value {
    with(air(), |json| {
        json["chains"] = json!([2, 1, 1]);
        json["num_key_value_heads"] = 2.into();
        json["head_dim"] = 128.into();
        json["attention_bias"] = true.into();
        json["tie_word_embeddings"] = true.into();
    })
}
