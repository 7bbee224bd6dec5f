//! `colm doctor`: the machine, and whether a model fits.

use std::io::Write;
use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::{bail, Result};
use clap::builder::NonEmptyStringValueParser;
use clap::Args;
use colm::{Dtype, Engine, MachineMemory, MemoryPlan, Quantization};
use colm_kernels::{check_isa_limit, instruction_set};

use super::output::{error_message, Stdout};
use super::parsers::count;

/// Check this machine: device, instruction sets, memory, limits, and with -m whether a model fits.
///
/// Reads the config, the tokenizer, the chat template and the headers of the weights, but not the weights. A model of the
/// hub is downloaded first, weights included. The exit code is 1 if something is wrong.
#[derive(Args)]
pub struct DoctorArgs {
    /// Model folder, or Hugging Face model id such as `owner/name` or `owner/name@revision`.
    #[arg(short, long, value_name = "DIR", value_parser = NonEmptyStringValueParser::new())]
    model: Option<String>,
    /// Load only the first K chains [default: all].
    #[arg(long, value_name = "K", value_parser = count)]
    max_chains: Option<usize>,
    /// Size of the KV cache in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = count)]
    kv_cache_mb: usize,
    /// Quantize the linear layers and the LM head while loading.
    #[arg(long, value_name = "TYPE")]
    isq: Option<Quantization>,
    /// Dtype of the weights: `f32`, `bf16`, `f16` or `auto`.
    #[arg(long, default_value = "auto")]
    dtype: Dtype,
    /// Dtype of the KV cache: `f32`, `bf16`, `f16` or `auto`.
    #[arg(long, default_value = "auto", value_name = "DTYPE")]
    kv_cache_dtype: Dtype,
    /// Read flags from this TOML file, as `colm serve` does.
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "read before the arguments are parsed")]
    config: Option<PathBuf>,
}

/// Open files below which a server runs out of connections.
const FEW_FILES: u64 = 1024;

/// A line of the report: what, its value, and what is wrong with it.
struct Finding {
    what: &'static str,
    value: String,
    problem: Option<String>,
}

/// Writes the report.
pub async fn run(args: DoctorArgs) -> Result<()> {
    let mut findings = machine();
    if let Some(model) = &args.model {
        findings.extend(of_model(&args, model));
    }
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    for Finding { what, value, problem } in &findings {
        match problem {
            None => writeln!(Stdout, "ok     {what:width$}  {value}")?,
            Some(problem) => writeln!(Stdout, "WRONG  {what:width$}  {value}: {problem}")?,
        }
    }
    Stdout.flush()?;
    match findings.iter().filter(|finding| finding.problem.is_some()).count() {
        0 => Ok(()),
        1 => bail!("1 problem"),
        problems => bail!("{problems} problems"),
    }
}

fn machine() -> Vec<Finding> {
    let limit_error = check_isa_limit().err().map(|error| error.to_string());
    let instructions = if limit_error.is_some() { "unknown" } else { instruction_set() };
    let slow = instructions.starts_with("none");
    let slow = slow.then(|| {
        "colm is slow, because it uses no AVX2, AVX-512 or NEON: the processor has none of them, or \
         `COLM_MAX_CPU_ISA` rules them out"
            .into()
    });
    let cores = available_parallelism().map_or(1, usize::from);
    let MachineMemory { total, available, .. } = MachineMemory::now();
    let files = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(_, hard)| hard);
    vec![
        fine("colm", format!("{}, on mistral.rs 0.8.1", env!("CARGO_PKG_VERSION"))),
        device(),
        Finding {
            what: "instruction set",
            value: instructions.into(),
            problem: limit_error.or(slow),
        },
        fine("cores", cores.to_string()),
        fine("memory", format!("{}, {} available", gib(total as u64), gib(available as u64))),
        Finding {
            what: "open files",
            value: if files == u64::MAX { "no limit".into() } else { files.to_string() },
            problem: (files < FEW_FILES).then(|| {
                format!("each connection is one, expected at least {FEW_FILES} (`ulimit -n`)")
            }),
        },
    ]
}

fn device() -> Finding {
    if cfg!(not(feature = "cuda")) {
        return fine("device", "CPU (built without CUDA)".into());
    }
    match candle_core::Device::new_cuda(0) {
        Ok(_) => fine("device", "CUDA GPU 0".into()),
        Err(error) => Finding {
            what: "device",
            value: "no GPU".into(),
            problem: Some(format!("this build is for CUDA, --cpu runs it on the CPU: {error}")),
        },
    }
}

fn of_model(args: &DoctorArgs, model: &str) -> Vec<Finding> {
    let builder = Engine::builder(model)
        .max_chains(args.max_chains)
        .kv_cache_mib(args.kv_cache_mb)
        .dtype(args.dtype)
        .kv_cache_dtype(args.kv_cache_dtype)
        .quantization(args.isq);
    match builder.memory_plan() {
        Ok(plan) => plan_findings(&plan),
        Err(error) => vec![Finding {
            what: "model",
            value: model.into(),
            problem: Some(error_message(&error.into())),
        }],
    }
}

fn plan_findings(plan: &MemoryPlan) -> Vec<Finding> {
    let MemoryPlan { name, chains, parameters, context, kv_tokens, .. } = plan;
    let needed = plan.weights as u64 + plan.kv_cache as u64;
    let longest = kv_tokens.min(context);
    let chains = match chains.get() {
        1 => "1 chain".into(),
        chains => format!("{chains} chains"),
    };
    vec![
        fine("model", format!("{name}, {chains}, {parameters} parameters, context of {context} tokens")),
        Finding {
            what: "fits",
            value: format!("weights {}, KV cache {}", gib(plan.weights as u64), gib(plan.kv_cache as u64)),
            problem: (!plan.fits()).then(|| {
                format!(
                    "{} are needed and {} are available, expected a smaller --kv-cache-mb or --max-chains, --dtype \
                     bf16, or --isq",
                    gib(needed),
                    gib(plan.available as u64)
                )
            }),
        },
        fine(
            "chat template",
            if plan.has_chat_template { "yes".into() } else { "none: the model continues plain text (--raw)".into() },
        ),
        fine(
            "KV cache",
            format!(
                "{kv_tokens} tokens of all sequences together, {} bytes each; the longest sequence has {longest}",
                plan.kv_bytes_per_token
            ),
        ),
    ]
}

fn fine(what: &'static str, value: String) -> Finding {
    Finding { what, value, problem: None }
}

fn gib(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    match bytes {
        GIB.. => format!("{:.2} GiB", bytes as f64 / GIB as f64),
        _ => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
    }
}
