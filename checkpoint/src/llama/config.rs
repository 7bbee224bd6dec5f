//! Conversion of a config of the Llama family.

use serde_json::{json, Map, Value};

use super::fields::{KEPT, MUST_BE_FALSE, MUST_BE_NULL, MUST_BE_ONE, REQUIRED};
use crate::config::{
    check_not_quantized, invalid, same_value, Architecture, ColmConfig, ConfigError, Fields,
    RopeFields,
};
use crate::format::AllowedDeviations;
use crate::json::{parse_object, parse_text};

/// The supported model families, which compute the same and differ in their configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Family {
    const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The fields of a config.json that is not CoLM's own.
pub(crate) struct LlamaConfig(Fields);

impl LlamaConfig {
    /// The fields of `json`; None if it is a CoLM config.
    pub fn parse(json: &str) -> Result<Option<Self>, ConfigError> {
        let fields: Fields = parse_text(json)?;
        let colm = [Architecture::Colm, Architecture::ColmAir];
        let is_colm = fields.contains("chains")
            || colm.iter().any(|colm| {
                fields.get("model_type") == Some(&json!(colm.model_type()))
                    || fields.get("architectures") == Some(&json!([colm.name()]))
            });
        Ok((!is_colm).then_some(Self(fields)))
    }

    /// The CoLM config of one chain, and in what ways its weights may deviate from
    /// `docs/spec.md#tensors`.
    pub fn into_colm(self) -> Result<(ColmConfig, AllowedDeviations), ConfigError> {
        let rope = RopeFields::of(&self.0);
        self.convert().map_err(|error| rope.name_as_written(error))
    }

    /// As [`Self::into_colm`]; errors name RoPE's fields `rope_theta` and `rope_scaling`.
    fn convert(mut self) -> Result<(ColmConfig, AllowedDeviations), ConfigError> {
        let family = self.family()?;
        check_not_quantized(self.0.get("quantization_config"))?;
        let neutral = [
            (&MUST_BE_NULL[..], Value::Null),
            (&MUST_BE_FALSE, json!(false)),
            (&MUST_BE_ONE, json!(1)),
        ];
        for (fields, neutral) in neutral {
            fields.iter().try_for_each(|field| self.require(field, &neutral))?;
        }
        self.require("is_causal", &json!(true))?;
        for field in REQUIRED {
            if self.0.get(field).is_none() {
                return Err(invalid(field, "absent", "expected a positive number"));
            }
        }
        self.check_layer_types()?;
        self.set_defaults(family)?;
        self.check_sliding_window(family)?;
        self.check_biases(family)?;
        RopeFields::normalize(&mut self.0)?;
        self.check_original_context()?;
        self.0.rename_dtype()?;
        let deviations = AllowedDeviations {
            state_dicts: false,
            no_o_bias: family == Family::Qwen2,
            tied_head_copy: true,
            paper_conventions: false,
        };
        let mut fields: Map<String, Value> = self.0.into_map();
        fields.retain(|field, _| KEPT.contains(&field.as_str()));
        fields.insert("architectures".into(), json!([Architecture::Colm.name()]));
        fields.insert("model_type".into(), json!(Architecture::Colm.model_type()));
        fields.insert("chains".into(), json!([1]));
        if family == Family::Qwen3 {
            fields.insert("qk_norm".into(), json!(true));
        }
        let config = ColmConfig::new(parse_object(fields)?)?;
        let (heads, kv_heads) = (config.heads.of(0), config.kv_heads.of(0));
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("expected a divisor of num_attention_heads = {heads}");
            return Err(invalid("num_key_value_heads", &kv_heads, expected));
        }
        Ok((config, deviations))
    }

    fn family(&self) -> Result<Family, ConfigError> {
        let written = self.0.get("model_type").cloned().unwrap_or_default();
        let family = Family::ALL.into_iter().find(|family| written == family.model_type());
        let Some(family) = family else {
            let expected =
                "expected \"colm\" or \"colm_air\", or \"llama\", \"mistral\", \"qwen2\" or \"qwen3\"";
            return Err(invalid("model_type", &written, expected));
        };
        match self.0.get("architectures") {
            Some(names) if *names != json!([family.architecture()]) => {
                let expected = format!("expected [\"{}\"]", family.architecture());
                Err(invalid("architectures", names, expected))
            }
            _ => Ok(family),
        }
    }

    /// An error if `field` has a value other than `neutral`.
    fn require(&self, field: &'static str, neutral: &Value) -> Result<(), ConfigError> {
        match self.0.get(field) {
            Some(value) if !same_value(value, neutral) => {
                let expected = match neutral {
                    Value::Null => "CoLM does not have this; expected null or no such field".into(),
                    neutral => {
                        format!("CoLM does not have this; expected {neutral} or no such field")
                    }
                };
                Err(invalid(field, value, expected))
            }
            _ => Ok(()),
        }
    }

    fn check_layer_types(&self) -> Result<(), ConfigError> {
        let Some(types) = self.0.get("layer_types") else {
            return Ok(());
        };
        let layers = self.0.get("num_hidden_layers").and_then(Value::as_u64);
        let full = |types: &Vec<Value>| types.iter().all(|layer| layer == "full_attention");
        match types.as_array() {
            Some(types) if full(types) && Some(types.len() as u64) == layers => Ok(()),
            _ => {
                let expected = "expected \"full_attention\" once for each of num_hidden_layers";
                Err(invalid("layer_types", types, expected))
            }
        }
    }

    /// transformers takes this value rather than that of the map of RoPE.
    fn check_original_context(&self) -> Result<(), ConfigError> {
        const FIELD: &str = "original_max_position_embeddings";
        let in_map = self.0.get("rope_scaling").and_then(|map| map.get(FIELD));
        match (self.0.get(FIELD), in_map) {
            (Some(value), Some(in_map)) if !same_value(value, in_map) => {
                let expected = format!("`rope_scaling.{FIELD}` is {in_map}; expected the same");
                Err(invalid(FIELD, value, expected))
            }
            _ => Ok(()),
        }
    }

    /// Sets the defaults of transformers.
    fn set_defaults(&mut self, family: Family) -> Result<(), ConfigError> {
        self.0.set_default("rms_norm_eps", json!(1e-6));
        match family {
            Family::Llama => self.0.set_default("max_position_embeddings", json!(2048)),
            Family::Mistral => {
                self.0.set_default("max_position_embeddings", json!(4096 * 32));
                // Absent means 4096; null means no window.
                if !self.0.contains("sliding_window") {
                    self.0.set("sliding_window", json!(4096));
                }
            }
            Family::Qwen2 => self.0.set_default("max_position_embeddings", json!(32768)),
            Family::Qwen3 => {
                self.0.set_default("max_position_embeddings", json!(32768));
                self.0.set_default("head_dim", json!(128));
            }
        }
        // null means one per query head. Absent means a default that differs between families.
        let written = self.0.contains("num_key_value_heads");
        if family != Family::Llama && !written {
            let expected = format!("expected a number in a config of {}", family.architecture());
            return Err(invalid("num_key_value_heads", "absent", expected));
        }
        Ok(())
    }

    /// A window at least as long as the context has no effect and is accepted.
    fn check_sliding_window(&self, family: Family) -> Result<(), ConfigError> {
        // Qwen2 and Qwen3 ignore it without `use_sliding_window`.
        let ignored = matches!(family, Family::Qwen2 | Family::Qwen3);
        let window = self.0.get("sliding_window").filter(|_| !ignored);
        let longest = self.0.get("max_position_embeddings").and_then(Value::as_u64);
        match window {
            Some(window) if window.as_u64() < longest || longest.is_none() => {
                let expected =
                    "in CoLM every token attends to all earlier ones; expected null, or at least \
                     max_position_embeddings";
                Err(invalid("sliding_window", window, expected))
            }
            _ => Ok(()),
        }
    }

    fn check_biases(&mut self, family: Family) -> Result<(), ConfigError> {
        match family {
            Family::Llama => Ok(()),
            Family::Mistral => {
                self.require("attention_bias", &json!(false))?;
                self.require("mlp_bias", &json!(false))
            }
            Family::Qwen2 => {
                self.require("attention_bias", &json!(true))?;
                self.0.set("attention_bias", json!(true));
                self.require("mlp_bias", &json!(false))
            }
            Family::Qwen3 => self.require("mlp_bias", &json!(false)),
        }
    }
}
