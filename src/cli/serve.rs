//! `colm serve`: the OpenAI API over HTTP.

use anyhow::Result;
use clap::Args;
use colm::serve::{Elastic, Guard, ServeOptions};

use super::load::{GenerationConfigArgs, LoadArgs};

/// Serve the OpenAI API over HTTP, with Swagger's pages at /docs.
///
/// The model id NAME@k answers at k chains, NAME at all loaded chains, or at fewer under load (--elastic).
/// Ctrl-C or SIGTERM ends the server: clients get an error for what is not answered yet.
///
/// Nothing of a request is kept after its answer but blocks of the KV cache (--kv-cache-mb), which prompts
/// that begin alike share. The body of a request is at most 2 MiB plus 64 bytes per token of the model's
/// context; its answers are at most 128, and together at most 16 contexts of tokens. At most 2 grammars are
/// compiled at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// The port to listen on; 0: any free one.
    #[arg(short, long, default_value_t = 1234)]
    port: u16,
    /// The name or address to listen on, such as localhost, ::1 or 0.0.0.0. The default is reachable from this
    /// machine only.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Let web pages of this origin use the API, such as https://example.org; may be given several times.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Load thresholds: 8:2,16:1 means 2 chains from 8 active requests, 1 from 16. A request that names k gets k.
    #[arg(long, value_name = "REQUESTS:K,..")]
    elastic: Option<Elastic>,
    #[command(flatten)]
    generation: GenerationConfigArgs,
    #[command(flatten)]
    pub load: LoadArgs,
}

const EXAMPLES: &str = "\
Examples:
  colm serve -m models/tiny-colm-air
  colm serve -m models/tiny-colm-air --elastic 8:2,16:1   fewer chains while many ask
  colm serve -m models/tiny-colm-air --max-chains 2 --host 0.0.0.0 -p 8080";

/// Serves until it is stopped.
pub async fn run(args: ServeArgs) -> Result<()> {
    let generation_config = args.generation.is_used();
    let builder = args.load.builder().reserve_kv_cache(true).generation_config(generation_config);
    let engine = builder.start().await?;
    let guard = Guard { allow_origins: args.allow_origin, ..Guard::default() };
    let options = ServeOptions { elastic: args.elastic.unwrap_or_default(), guard };
    Ok(colm::serve::serve(engine, &args.host, args.port, options).await?)
}
