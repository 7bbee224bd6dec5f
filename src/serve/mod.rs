//! The OpenAI API over HTTP.
//!
//! `POST /v1/chat/completions`, `/v1/completions` and `/v1/responses` take the model id `NAME@k` or
//! a field `"chains": k`; what names neither gets all loaded chains, or what [`Elastic`] says at the
//! load of the moment. Every body is read into types of this module, and whatever they do not have is
//! refused by name. `routes.rs` has all routes.

mod answers;
mod chat;
mod completions;
mod elastic;
mod error;
mod fields;
mod format;
mod guard;
mod json_shape;
mod labels;
mod limits;
mod logprobs;
mod model_choice;
mod models;
mod responses;
mod routes;
mod sampling;
mod shutdown;
mod sse;
mod template_message;
mod tools;
mod usage;

use std::sync::Arc;

use crate::{ChainCount, Engine};

pub use elastic::{Elastic, ElasticError};
pub use guard::Guard;
pub use routes::router;
pub use shutdown::serve;

/// How to serve.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Chain counts by load.
    pub elastic: Elastic,
    /// Who may talk to the server.
    pub guard: Guard,
}

/// The model that is served.
#[derive(Clone)]
struct Served {
    engine: Engine,
    /// NAME, its id at all loaded chains.
    name: Arc<str>,
    /// The number of chains loaded: `NAME@1` to `NAME@loaded` are its ids at k chains.
    loaded: ChainCount,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    /// The requests in progress.
    load: elastic::Load,
    /// The longest body that is read.
    most_body_bytes: usize,
}
