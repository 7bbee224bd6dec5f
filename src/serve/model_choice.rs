//! Which chain count a request asks for: as the model id `NAME@k`, as the field `"chains": k`, or
//! neither, which leaves it to the server.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::elastic::InProgress;
use super::error::Refusal;
use super::fields::Fields;
use super::Served;
use crate::{model_id_at, parse_chain_count, ChainCount};

/// The model id that stands for whichever model is served.
pub const DEFAULT: &str = "default";

/// The fields that choose the model.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct ModelFields {
    /// NAME, NAME@k for its first k chains, or `default`.
    #[schema(example = "default")]
    model: Option<String>,
    /// How many chains answer: fewer are faster, more are more accurate. If absent, all, or what the server
    /// chooses by its load.
    #[schema(value_type = Option<u32>, minimum = 1)]
    chains: Option<Box<RawValue>>,
}

/// The model a request is answered by.
pub struct Chosen {
    /// k
    pub chains: ChainCount,
    /// NAME@k
    pub id: String,
    /// The request counts as in progress until this is dropped.
    #[allow(dead_code, reason = "held, not read")]
    pub in_progress: InProgress,
}

impl Served {
    /// The model that `fields` choose.
    pub fn choose(&self, fields: &mut Fields) -> Result<Chosen, Refusal> {
        let asked = self.asked_chains(&fields.take()?)?;
        let in_progress = self.load.enter();
        let chains = asked.unwrap_or_else(|| self.load.chains(&in_progress, self.loaded));
        Ok(Chosen { chains, id: model_id_at(&self.name, chains), in_progress })
    }

    /// The chain count asked for, from 1 to all loaded; None if it is left open.
    fn asked_chains(&self, fields: &ModelFields) -> Result<Option<ChainCount>, Refusal> {
        let of_model = match &fields.model {
            Some(id) => self.chain_count_of_model(id)?,
            None => None,
        };
        let of_field = match &fields.chains {
            Some(chains) => Some(
                parse_chain_count(chains.get(), self.loaded)
                    .map_err(|refused| Refusal::value("chains", refused.to_string()))?,
            ),
            None => None,
        };
        match (of_model, of_field) {
            (Some(model), Some(field)) if model != field => {
                let message = format!(
                    "the model id asks for {model} chains but the field \"chains\" for {field}: \
                     give one of them, or the same from 1 to {}",
                    self.loaded
                );
                Err(Refusal::value("chains", message))
            }
            (of_model, of_field) => Ok(of_field.or(of_model)),
        }
    }

    /// k of `NAME@k`; None for an id that leaves it open.
    fn chain_count_of_model(&self, id: &str) -> Result<Option<ChainCount>, Refusal> {
        if id == DEFAULT || *id == *self.name {
            return Ok(None);
        }
        let chains = id.strip_prefix(&*self.name).and_then(|rest| rest.strip_prefix('@'));
        let chains = chains.ok_or_else(|| self.unknown_model(id))?;
        match parse_chain_count(chains, self.loaded) {
            Ok(k) => Ok(Some(k)),
            Err(refused) => {
                Err(Refusal::not_found(format!("the model {id} does not exist: {refused}")))
            }
        }
    }

    /// Why the model id `id` is refused.
    pub fn unknown_model(&self, id: &str) -> Refusal {
        let Self { name, loaded, .. } = self;
        let id: String = id.chars().take(200).collect();
        Refusal::not_found(format!(
            "the model {id} does not exist: {name} is served, or {name}@k with k from 1 to {loaded}"
        ))
    }
}
