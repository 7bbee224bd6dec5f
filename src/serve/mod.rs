//! The OpenAI API over HTTP.
//!
//! `POST /v1/chat/completions`, `/v1/completions` and `/v1/responses` take the chain count from the model id `NAME@k`
//! or from the field `"chains": k`. A request with neither is answered by all loaded chains, or by fewer under load
//! ([`Elastic`]). `POST /v1/prefill` replaces them in a server that only computes prompts ([`Role`]). Unknown fields fail
//! with an error that names the field. `routes.rs` lists the routes.

mod admission;
mod answers;
mod api_keys;
mod chat;
mod completions;
mod connections;
mod elastic;
mod error;
mod fields;
mod format;
mod guard;
mod guarded_body;
mod interrupt;
mod json_shape;
mod labels;
mod limits;
mod logprobs;
mod metrics;
mod model_choice;
mod models;
mod options;
mod prefill;
mod request_log;
mod responses;
mod routes;
mod sampling;
mod server;
mod sse;
mod stream_options;
mod template_message;
mod tls;
mod tools;
mod usage;

use std::sync::Arc;

use crate::{ChainCount, Engine};

pub use api_keys::{ApiKeyError, ApiKeys};
pub use elastic::{Elastic, ElasticError};
pub use guard::Guard;
pub use options::{Role, ServeLimits, ServeOptions, StatusLines, TlsFiles};
pub use routes::router;
pub use server::serve;

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
    /// The requests in progress.
    admission: admission::Admission,
    metrics: metrics::Metrics,
    limits: limits::RequestLimits,
}
