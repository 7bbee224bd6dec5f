//! config.json of the Llama family, as the CoLM of one chain that means the same (SPEC 1).
//!
//! Meant is what Hugging Face transformers computes for the config, defaults included. What CoLM
//! does not have is refused by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{json, Map, Value};

use crate::config::{refuse, Architecture, ColmConfig, ConfigError};
use crate::json_file::{self, parse_text};
use crate::llama_fields::{ABSENT, FALSE, KEPT, ONE, REQUIRED};
use crate::llama_rope::RopeFields;
use crate::quantization::check_not_quantized;
use crate::read::Leniency;
use crate::unique_names::unique_names;

/// The models that are Llama but for what their configs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
}

impl Family {
    const ALL: [Self; 3] = [Self::Llama, Self::Mistral, Self::Qwen2];

    fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
        }
    }
}

/// Whether both mean the same: 1 and 1.0 do.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
}

/// The fields of a config.json.
pub(crate) struct Fields(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        unique_names(deserializer).map(Self)
    }
}

impl Fields {
    /// The fields of `json` if it is a config, but not CoLM's own.
    pub fn of_other_than_colm(json: &str) -> Result<Option<Self>, ConfigError> {
        let fields: Self = parse_text(json)?;
        let colm = [Architecture::Colm, Architecture::ColmAir];
        let is_colm = fields.0.contains_key("chains")
            || colm
                .iter()
                .any(|colm| fields.0.get("model_type") == Some(&json!(colm.model_type())))
            || colm.iter().any(|colm| fields.0.get("architectures") == Some(&json!([colm.name()])));
        Ok((!is_colm).then_some(fields))
    }

    /// None if the field is absent or null.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub fn into_map(self) -> Map<String, Value> {
        self.0.into_iter().collect()
    }

    pub fn set(&mut self, field: &str, value: Value) {
        self.0.insert(field.into(), value);
    }

    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    fn set_default(&mut self, field: &str, value: Value) {
        if self.get(field).is_none() {
            self.set(field, value);
        }
    }

    /// The CoLM config of one chain, and how far its weights may differ from SPEC 4.
    pub fn into_colm(self) -> Result<(ColmConfig, Leniency), ConfigError> {
        let rope = RopeFields::of(&self);
        self.with_rope_of_colm().map_err(|error| rope.name_as_written(error))
    }

    /// The same; errors name RoPE's fields as CoLM has them.
    fn with_rope_of_colm(mut self) -> Result<(ColmConfig, Leniency), ConfigError> {
        let family = self.family()?;
        check_not_quantized(self.get("quantization_config"))?;
        let neutral = [(&ABSENT[..], Value::Null), (&FALSE, json!(false)), (&ONE, json!(1))];
        for (fields, neutral) in neutral {
            fields.iter().try_for_each(|field| self.require(field, &neutral))?;
        }
        for field in REQUIRED {
            if self.get(field).is_none() {
                return Err(refuse(field, "absent", "expected a positive number"));
            }
        }
        self.check_layer_types()?;
        self.set_defaults(family)?;
        self.check_window(family)?;
        self.check_biases(family)?;
        RopeFields::unite(&mut self)?;
        if let Some(dtype) = self.take("dtype") {
            self.set_default("torch_dtype", dtype);
        }
        let leniency =
            Leniency { state_dicts: true, no_o_bias: family == Family::Qwen2, head_copy: true };
        let mut fields: Map<String, Value> =
            self.0.into_iter().filter(|(field, _)| KEPT.contains(&field.as_str())).collect();
        fields.insert("architectures".into(), json!([Architecture::Colm.name()]));
        fields.insert("model_type".into(), json!(Architecture::Colm.model_type()));
        fields.insert("chains".into(), json!([1]));
        Ok((ColmConfig::new(json_file::of_map(fields)?)?, leniency))
    }

    fn family(&self) -> Result<Family, ConfigError> {
        let written = self.get("model_type").cloned().unwrap_or_default();
        let family = Family::ALL.into_iter().find(|family| written == family.model_type());
        let Some(family) = family else {
            let expected =
                "expected \"colm\" or \"colm_air\", or \"llama\", \"mistral\" or \"qwen2\"";
            return Err(refuse("model_type", &written, expected));
        };
        match self.get("architectures") {
            Some(names) if *names != json!([family.architecture()]) => {
                let expected = format!("expected [\"{}\"]", family.architecture());
                Err(refuse("architectures", names, expected))
            }
            _ => Ok(family),
        }
    }

    /// Refuses any value of `field` but `neutral`.
    fn require(&self, field: &'static str, neutral: &Value) -> Result<(), ConfigError> {
        match self.get(field) {
            Some(value) if !same(value, neutral) => {
                let expected = match neutral {
                    Value::Null => "CoLM does not have this; expected null or no such field".into(),
                    neutral => {
                        format!("CoLM does not have this; expected {neutral} or no such field")
                    }
                };
                Err(refuse(field, value, expected))
            }
            _ => Ok(()),
        }
    }

    fn check_layer_types(&self) -> Result<(), ConfigError> {
        let Some(types) = self.get("layer_types") else {
            return Ok(());
        };
        let full = |types: &Vec<Value>| types.iter().all(|layer| layer == "full_attention");
        match types.as_array() {
            Some(types) if full(types) => Ok(()),
            _ => Err(refuse("layer_types", types, "expected \"full_attention\" for every layer")),
        }
    }

    /// What transformers takes where config.json is silent.
    fn set_defaults(&mut self, family: Family) -> Result<(), ConfigError> {
        self.set_default("rms_norm_eps", json!(1e-6));
        match family {
            Family::Llama => self.set_default("max_position_embeddings", json!(2048)),
            Family::Mistral => {
                self.set_default("max_position_embeddings", json!(4096 * 32));
                // An absent window is not the same as one of null.
                if !self.0.contains_key("sliding_window") {
                    self.set("sliding_window", json!(4096));
                }
            }
            Family::Qwen2 => self.set_default("max_position_embeddings", json!(32768)),
        }
        // null means one for each query head; the absent field some number of the family's own.
        let written = self.0.contains_key("num_key_value_heads");
        if family != Family::Llama && !written {
            let expected = format!("expected a number in a config of {}", family.architecture());
            return Err(refuse("num_key_value_heads", "absent", expected));
        }
        Ok(())
    }

    /// A window as long as the longest sequence is none.
    fn check_window(&self, family: Family) -> Result<(), ConfigError> {
        // Of Qwen2 it means nothing without `use_sliding_window`.
        let window = self.get("sliding_window").filter(|_| family != Family::Qwen2);
        let longest = self.get("max_position_embeddings").and_then(Value::as_u64);
        match window {
            Some(window) if window.as_u64() < longest || longest.is_none() => {
                let expected =
                    "every token of CoLM attends to all earlier ones; expected null, or at \
                                least max_position_embeddings";
                Err(refuse("sliding_window", window, expected))
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
                self.set("attention_bias", json!(true));
                self.require("mlp_bias", &json!(false))
            }
        }
    }
}
