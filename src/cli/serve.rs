//! `colm serve`: the OpenAI API over HTTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, Context, Result};
use clap::{Args, ValueEnum};
use colm::serve::{ApiKeys, Elastic, Role, ServeLimits, ServeOptions, StatusLines, TlsFiles};
use colm::{KvStoreOptions, PrefillServerOptions};

use super::load::{flush_kv_store, DraftArgs, GenerationConfigArgs, KvStoreArgs, LoadArgs};
use super::parsers::{at_least_1, count, port, positive_seconds, seconds};

/// Serve the OpenAI API over HTTP, with Swagger UI at /docs.
///
/// The model id NAME@k answers at k chains, NAME at all loaded chains, or at fewer chains under load (--elastic).
/// Ctrl-c or SIGTERM stops the server: requests in progress may end (--drain-timeout), new ones are refused.
///
/// Requests and answers are not stored, except for blocks of the KV cache (--kv-cache-mb), which prompts with a common
/// prefix share. At most 2 grammars are compiled at once, and a request has at most 128 answers with at most 16 times
/// the context in total.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Port to listen on; 0 selects a free port.
    #[arg(short, long, default_value_t = 1234, value_parser = port)]
    port: u16,
    /// Host name or address to listen on, such as `localhost`, `::1` or `0.0.0.0`. The default accepts connections from
    /// this machine only; others need a key (--api-key).
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
    access: AccessArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Serve /metrics on this port as well, without a key.
    #[arg(long, value_name = "PORT", value_parser = port)]
    metrics_port: Option<u16>,
    /// Log a line per request: its id, route, status and duration, but nothing of its content.
    #[arg(long)]
    pub log_requests: bool,
    /// Format of the log on stderr, and of the lines about the start and stop of the server.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    #[command(flatten)]
    generation: GenerationConfigArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    kv_store: KvStoreArgs,
    #[command(flatten)]
    role: RoleArgs,
}

/// Prompts and answers in different processes.
#[derive(Args)]
#[command(next_help_heading = "Disaggregated prefill")]
struct RoleArgs {
    /// `prefill`: compute prompts for other servers (POST /v1/prefill) and put their KV blocks into --kv-store. `decode`:
    /// answer, and let the server of --prefill compute long prompts.
    #[arg(long, value_enum, value_name = "ROLE", default_value_t = RoleName::All)]
    role: RoleName,
    /// The server that computes long prompts, such as `http://host:1234`. Needs --role decode.
    #[arg(long, value_name = "URL")]
    prefill: Option<String>,
    /// The API key of that server.
    #[arg(long, value_name = "KEY", hide_env_values = true, requires = "prefill")]
    prefill_key: Option<String>,
    /// Ask that server if at least this many tokens of a prompt are neither in the prefix cache nor in the store.
    #[arg(long, value_name = "TOKENS", default_value_t = PrefillServerOptions::DEFAULT_THRESHOLD, value_parser = count)]
    prefill_threshold: usize,
    /// Longest time that server may take; after that the prompt is computed here.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, default_value = "60")]
    prefill_timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Compute prompts and answers.
    All,
    Prefill,
    Decode,
}

impl RoleArgs {
    /// What the server is for, and the server that computes its prompts.
    fn role(&self, store: Option<KvStoreOptions>) -> Result<(Role, Option<KvStoreOptions>)> {
        match (self.role, &self.prefill, store) {
            (RoleName::All | RoleName::Prefill, Some(_), _) => {
                bail!("--prefill: only --role decode lets another server compute prompts")
            }
            (RoleName::Prefill | RoleName::Decode, _, None) => {
                bail!(
                    "--role: prompts go from server to server through a store, expected --kv-store"
                )
            }
            (RoleName::Decode, None, _) => {
                bail!("--role decode: expected --prefill with the server that computes prompts")
            }
            (RoleName::Decode, Some(url), Some(store)) => {
                let server = PrefillServerOptions::new(url)
                    .key(self.prefill_key.clone())
                    .threshold(self.prefill_threshold)
                    .timeout(self.prefill_timeout);
                Ok((Role::Answer, Some(store.prefill_server(server))))
            }
            (RoleName::Prefill, None, store) => Ok((Role::Prefill, store)),
            (RoleName::All, None, store) => Ok((Role::Answer, store)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    /// One JSON object per line.
    Json,
}

/// Who may use the server.
#[derive(Args)]
#[command(next_help_heading = "Access")]
struct AccessArgs {
    /// Require this key: `Authorization: Bearer KEY`. At least 16 characters. May be repeated. The environment variable
    /// COLM_API_KEY is safer, because other users can see the arguments of a process.
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    api_key: Vec<String>,
    /// Require one of the keys in this file, one per line.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Let other machines use the server without a key.
    #[arg(long)]
    no_auth: bool,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// What clients may ask for, and how slow they may be.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// How many answers may wait for one of the --max-seqs that run. Further requests get status 429.
    #[arg(long, value_name = "N", default_value_t = ServeLimits::default().max_queue, value_parser = count)]
    max_queue: usize,
    /// Most open connections. More wait until one is closed.
    #[arg(long, value_name = "N", default_value_t = ServeLimits::default().max_connections, value_parser = at_least_1)]
    max_connections: usize,
    /// Largest body of a request in KiB [default: 2048 and 64 bytes per token of the context].
    #[arg(long, value_name = "KIB", value_parser = at_least_1)]
    max_body_kb: Option<usize>,
    /// Longest prompt in tokens [default: the context].
    #[arg(long, value_name = "TOKENS", value_parser = at_least_1)]
    max_prompt_tokens: Option<usize>,
    /// Longest answer in tokens [default: the context].
    #[arg(long, value_name = "TOKENS", value_parser = at_least_1)]
    max_output_tokens: Option<usize>,
    /// Longest time from a request to the end of its answer [default: no limit].
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    request_timeout: Option<Duration>,
    /// Longest time for the head of a request, and for a TLS handshake.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, default_value = "10")]
    header_timeout: Duration,
    /// Longest time between two pieces of a body.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, default_value = "8")]
    body_timeout: Duration,
    /// Longest time between two requests on a connection.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, default_value = "75")]
    keep_alive_timeout: Duration,
    /// Longest time in which a client receives nothing of its response.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, default_value = "60")]
    send_timeout: Duration,
    /// How long requests in progress may take after a signal to stop.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    drain_timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  colm serve -m models/tiny-colm-air
  colm serve -m models/tiny-colm-air --elastic 8:2,16:1   fewer chains under load
  COLM_API_KEY=$KEY colm serve -m models/tiny-colm-air --max-chains 2 --host 0.0.0.0 -p 8080

Each flag can also come from an environment variable (COLM_MAX_QUEUE for --max-queue) or from a file (--config).";

/// Serves until a signal stops the server.
pub async fn run(args: ServeArgs) -> Result<()> {
    let generation_config = args.generation.is_used();
    let api_keys = args.access.keys()?;
    let builder = args.load.builder().max_drafts(args.draft.max_drafts);
    let builder = builder.reserve_kv_cache(true).generation_config(generation_config);
    let (role, kv_store) = args.role.role(args.kv_store.options()?)?;
    let engine = builder.kv_store(kv_store).start().await?;
    let mut options = ServeOptions::default()
        .elastic(args.elastic.unwrap_or_default())
        .role(role)
        .allow_origins(args.allow_origin)
        .api_keys(api_keys);
    options.limits = args.limits.limits();
    options.no_auth = args.access.no_auth;
    let tls = args.access.tls_cert.zip(args.access.tls_key);
    options.tls = tls.map(|(cert, key)| TlsFiles { cert, key });
    options.drain_timeout = args.limits.drain_timeout;
    options.metrics_port = args.metrics_port;
    options.status_lines = match args.log_format {
        LogFormat::Text => StatusLines::Stderr,
        LogFormat::Json => StatusLines::Log,
    };
    let served = colm::serve::serve(engine.clone(), &args.host, args.port, options).await;
    flush_kv_store(&engine).await;
    Ok(served?)
}

impl AccessArgs {
    /// The keys of the flag and of the file. Messages do not show a key.
    fn keys(&self) -> Result<ApiKeys> {
        let mut keys = self.api_key.clone();
        ApiKeys::new(keys.clone()).context("--api-key")?;
        if let Some(file) = &self.api_key_file {
            let of_file = keys_of(file)?;
            let named = || format!("--api-key-file {}", file.display());
            ApiKeys::new(of_file.clone()).with_context(named)?;
            keys.extend(of_file);
        }
        Ok(ApiKeys::new(keys)?)
    }
}

/// The lines of `file`, without empty ones and comments.
fn keys_of(file: &Path) -> Result<Vec<String>> {
    let name = || format!("--api-key-file {}", file.display());
    let text = std::fs::read_to_string(file).with_context(name)?;
    let text = text.trim_start_matches('\u{feff}');
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(String::from).collect();
    if keys.is_empty() {
        bail!("{}: the file has no key, expected one per line", name());
    }
    Ok(keys)
}

impl LimitArgs {
    fn limits(&self) -> ServeLimits {
        let mut limits = ServeLimits::default();
        limits.max_queue = self.max_queue;
        limits.max_connections = self.max_connections;
        limits.max_body_bytes = self.max_body_kb.map(|kib| kib.saturating_mul(1024));
        limits.max_prompt_tokens = self.max_prompt_tokens;
        limits.max_output_tokens = self.max_output_tokens;
        limits.request_timeout = self.request_timeout;
        limits.header_timeout = self.header_timeout;
        limits.body_timeout = self.body_timeout;
        limits.keep_alive_timeout = self.keep_alive_timeout;
        limits.send_timeout = self.send_timeout;
        limits
    }
}
