//! `colm serve`: the OpenAI API over HTTP.

use anyhow::Result;
use clap::Args;
use colm::serve::{Elastic, ServeOptions};

use super::load::{DraftArgs, GenerationConfigArgs, LoadArgs};

/// Serve the OpenAI API over HTTP, with Swagger UI at /docs.
///
/// The model id NAME@k answers at k chains, NAME at all loaded chains, or at fewer chains under load (--elastic).
/// Ctrl-c or SIGTERM stops the server; requests in progress end with an error.
///
/// Requests and answers are not stored, except for blocks of the KV cache (--kv-cache-mb), which prompts with a common
/// prefix share. Limits: a request body has at most 2 MiB plus 64 bytes per token of the model's context, a request has
/// at most 128 answers with at most 16 times the context in total, and at most 2 grammars are compiled at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Port to listen on; 0 selects a free port.
    #[arg(short, long, default_value_t = 1234)]
    port: u16,
    /// Host name or address to listen on, such as `localhost`, `::1` or `0.0.0.0`. The default accepts connections from
    /// this machine only.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Allow web pages of this origin to use the API, such as `https://example.org`. May be repeated.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Load thresholds: `8:2,16:1` means 2 chains from 8 active requests, 1 from 16. Requests that name a chain count
    /// are not affected.
    #[arg(long, value_name = "REQUESTS:K,..")]
    elastic: Option<Elastic>,
    #[command(flatten)]
    generation: GenerationConfigArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    draft: DraftArgs,
}

const EXAMPLES: &str = "\
Examples:
  colm serve -m models/tiny-colm-air
  colm serve -m models/tiny-colm-air --elastic 8:2,16:1   fewer chains under load
  colm serve -m models/tiny-colm-air --max-chains 2 --host 0.0.0.0 -p 8080";

/// Serves until a signal stops the server.
pub async fn run(args: ServeArgs) -> Result<()> {
    let generation_config = args.generation.is_used();
    let builder = args.load.builder().max_drafts(args.draft.max_drafts);
    let builder = builder.reserve_kv_cache(true).generation_config(generation_config);
    let engine = builder.start().await?;
    let options = ServeOptions::default()
        .elastic(args.elastic.unwrap_or_default())
        .allow_origins(args.allow_origin);
    Ok(colm::serve::serve(engine, &args.host, args.port, options).await?)
}
