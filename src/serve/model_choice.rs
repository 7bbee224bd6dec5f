//! Chooses the chain count of a request: from the model id `NAME@k`, from the field `"chains": k`, or, with neither, by
//! the server.

use colm_checkpoint::abbreviate;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::admission::ActiveRequest;
use super::error::ApiError;
use super::fields::Fields;
use super::AppState;
use crate::{model_id_at, parse_chain_count, ChainCount};

/// A model id that always refers to the model that is served.
pub const DEFAULT_MODEL: &str = "default";

/// The fields that choose the model.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct ModelFields {
    /// NAME, NAME@k for its first k chains, or `default`.
    #[schema(example = "default")]
    model: Option<String>,
    /// How many chains answer: fewer chains are faster, more are more accurate. Default: all loaded chains, or fewer
    /// under load.
    #[schema(value_type = Option<u32>, minimum = 1)]
    chains: Option<Box<RawValue>>,
}

/// The model id and chain count that answer a request.
pub struct ModelChoice {
    /// k.
    pub chains: ChainCount,
    /// NAME@k.
    pub id: String,
    /// The request counts as active until this is dropped.
    pub active: ActiveRequest,
}

impl AppState {
    /// The model that `fields` ask for.
    pub fn choose(&self, fields: &mut Fields) -> Result<ModelChoice, ApiError> {
        let requested = self.requested_chains(&fields.take()?)?;
        let active = self.admission.enter()?;
        let chains = requested.unwrap_or_else(|| self.admission.chains(&active, self.loaded));
        Ok(ModelChoice { chains, id: model_id_at(&self.name, chains), active })
    }

    /// The chain count that the request names, if any.
    fn requested_chains(&self, fields: &ModelFields) -> Result<Option<ChainCount>, ApiError> {
        let from_model = match &fields.model {
            Some(id) => self.chain_count_of_model(id)?,
            None => None,
        };
        let from_field = match &fields.chains {
            Some(chains) => Some(
                parse_chain_count(chains.get(), self.loaded)
                    .map_err(|refused| ApiError::invalid_value("chains", refused.to_string()))?,
            ),
            None => None,
        };
        match (from_model, from_field) {
            (Some(model), Some(field)) if model != field => {
                let message = format!(
                    "the model id asks for {model} chains, the field \"chains\" for {field}: \
                     expected one of them, or the same number from 1 to {}",
                    self.loaded
                );
                Err(ApiError::invalid_value("chains", message))
            }
            (from_model, from_field) => Ok(from_field.or(from_model)),
        }
    }

    /// k of the model id `NAME@k`. None for an id without k.
    fn chain_count_of_model(&self, id: &str) -> Result<Option<ChainCount>, ApiError> {
        if id == DEFAULT_MODEL || *id == *self.name {
            return Ok(None);
        }
        let chains = id.strip_prefix(&*self.name).and_then(|rest| rest.strip_prefix('@'));
        let chains = chains.ok_or_else(|| self.unknown_model(id))?;
        match parse_chain_count(chains, self.loaded) {
            Ok(k) => Ok(Some(k)),
            Err(refused) => {
                Err(ApiError::model_not_found(format!("the model {id} does not exist: {refused}")))
            }
        }
    }

    /// The error for an unknown model id.
    pub fn unknown_model(&self, id: &str) -> ApiError {
        let Self { name, loaded, .. } = self;
        let id = abbreviate(id);
        ApiError::model_not_found(format!(
            "the model {id} does not exist: expected {name}, or {name}@k with k from 1 to {loaded}"
        ))
    }
}
