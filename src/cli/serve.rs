//! `colm serve`: the OpenAI API over HTTP.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use clap::Args;
use colm::serve::Elastic;

use super::load::LoadArgs;

/// Serve the OpenAI API over HTTP, with Swagger's pages at /docs.
///
/// The model id NAME@k answers at k chains, NAME at all loaded chains, or at fewer under load (--elastic).
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// The port to listen on.
    #[arg(short, long, default_value_t = 1234)]
    port: u16,
    /// The address to listen on: this machine only, unless asked.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Elastic inference: from so many requests in progress on, those that name no k are answered at K chains.
    #[arg(long, value_name = "REQUESTS:K,..")]
    elastic: Option<Elastic>,
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
    let engine = args.load.engine().await?;
    colm::serve::serve(engine, args.host, args.port, args.elastic.unwrap_or_default()).await
}
