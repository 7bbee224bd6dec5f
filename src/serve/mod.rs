//! The OpenAI API over HTTP.
//!
//! `POST /v1/chat/completions`, `/v1/completions` and `/v1/responses` take the chain count from the model id `NAME@k`
//! or from the field `"chains": k`. A request with neither is answered by all loaded chains, or by fewer under load
//! ([`Elastic`]). Unknown fields fail with an error that names the field. `routes.rs` lists the routes.

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
mod stream_options;
mod template_message;
mod tools;
mod usage;

use std::sync::Arc;

use crate::{ChainCount, Engine};

pub use elastic::{Elastic, ElasticError};
pub use guard::Guard;
pub use routes::router;
pub use shutdown::serve;

/// Options of the server.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServeOptions {
    /// The chain count at high load.
    pub elastic: Elastic,
    /// Which web pages and host names may use the server.
    pub guard: Guard,
}

impl ServeOptions {
    /// Answers with fewer chains at high load.
    pub fn elastic(mut self, elastic: Elastic) -> Self {
        self.elastic = elastic;
        self
    }

    /// Lets web pages of these origins use the API, such as `https://example.org`.
    pub fn allow_origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.guard.allow_origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// Tells the server that it listens on a loopback address only. [`serve`] finds this out by itself.
    pub fn loopback(mut self, loopback: bool) -> Self {
        self.guard.loopback = loopback;
        self
    }
}

/// The state that the handlers share.
#[derive(Clone)]
struct AppState {
    engine: Engine,
    /// NAME, the model id at all loaded chains.
    name: Arc<str>,
    /// The number of chains loaded. `NAME@1` to `NAME@loaded` are the model ids at k chains.
    loaded: ChainCount,
    /// When the model was loaded, in seconds since 1970.
    created: u64,
    /// The active requests.
    load: elastic::ActiveRequests,
    /// The largest request body, in bytes.
    max_body_bytes: usize,
}
