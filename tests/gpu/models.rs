//! Random models of shapes that the CUDA kernels support.

use std::sync::LazyLock;

use candle_core::{DType, Device};
use colm_testing::random_model::{air, colm, with};
use colm_testing::standalone::Placement;
use serde_json::{json, Value};

/// The device that the kernels run on: one for all tests, since tensors of different [`Device`]s of a GPU do not mix.
pub fn device() -> Device {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| {
        if cfg!(feature = "cuda") {
            Device::new_cuda(0).expect("these tests run on a GPU")
        } else {
            Device::Cpu
        }
    });
    DEVICE.clone()
}

/// The placement on that device in `dtype`.
pub fn placement(dtype: DType, block_size: usize) -> Placement {
    Placement { device: device(), dtype, block_size }
}

/// Chains of one head of dimension 64 each, which share a key/value head.
pub fn air_64() -> Value {
    with(air(), |json| {
        json["hidden_size"] = 128.into();
        json["intermediate_size"] = 160.into();
        json["num_attention_heads"] = 4.into();
        json["num_key_value_heads"] = 1.into();
        json["head_dim"] = 64.into();
    })
}

/// Chains of one head of dimension 32 each, with key/value heads of their own.
pub fn colm_32() -> Value {
    with(colm(), |json| {
        json["num_attention_heads"] = 4.into();
        json["head_dim"] = 32.into();
    })
}

/// Unequal chains, heads of dimension 128, biases, and tied embeddings.
pub fn unequal_128() -> Value {
    with(air(), |json| {
        json["chains"] = json!([2, 1, 1]);
        json["num_key_value_heads"] = 2.into();
        json["head_dim"] = 128.into();
        json["attention_bias"] = true.into();
        json["tie_word_embeddings"] = true.into();
    })
}

/// As [`air_64`], with norms of heads and a last chain of widths that no ratio gives.
pub fn air_64_with_head_norms() -> Value {
    with(air_64(), |json| {
        json["qk_norm"] = true.into();
        json["hidden_size"] = 120.into();
        json["num_attention_heads"] = 5.into();
        json["chain_widths"] =
            json!({"hidden_size": [32, 32, 32, 24], "num_attention_heads": [1, 1, 1, 2]});
    })
}

/// As [`colm_32`], with norms of heads.
pub fn colm_32_with_head_norms() -> Value {
    with(colm_32(), |json| json["qk_norm"] = true.into())
}
