//! Translates names of library options to flags of the command line.

/// The options of the library as quoted in its errors, and the flags that set them.
const FLAGS: [(&str, &str); 25] = [
    ("`max_chains`", "--max-chains"),
    ("`max_seqs`", "--max-seqs"),
    ("`kv_cache_mib`", "--kv-cache-mb"),
    ("`prefill_chunk`", "--prefill-chunk"),
    ("`cpu`", "--cpu"),
    ("`dtype`", "--dtype"),
    ("`kv_cache_dtype`", "--kv-cache-dtype"),
    ("`matmul_precision`", "--matmul-precision"),
    ("`quantization`", "--isq"),
    ("`max_drafts`", "--drafts"),
    ("`prefix_cache`", "--no-prefix-cache"),
    ("`kv_store`", "--kv-store"),
    ("`kv_store_buffer_mib`", "--kv-store-buffer-mb"),
    ("`kv_store_max_bytes`", "--kv-store-gb"),
    ("`prefill`", "--prefill"),
    ("`role`", "--role"),
    ("`elastic`", "--elastic"),
    ("`allow_origins`", "--allow-origin"),
    ("`host`", "--host"),
    ("`api_keys`", "--api-key"),
    ("`no_auth`", "--no-auth"),
    ("`tls_cert`", "--tls-cert"),
    ("`tls_key`", "--tls-key"),
    ("`port`", "--port"),
    ("`metrics_port`", "--metrics-port"),
];

/// Replaces the options in an error message of the library by flags. Fields of config.json, whose values follow after an
/// equals sign, may have the same names.
pub fn with_flags(message: &str) -> String {
    let replace = |message: String, (option, flag): &(&str, &str)| {
        let mut parts = message.split(option);
        let mut replaced = parts.next().unwrap_or_default().to_string();
        for part in parts {
            replaced.push_str(if part.starts_with(" = ") { option } else { flag });
            replaced.push_str(part);
        }
        replaced
    };
    FLAGS.iter().fold(message.to_string(), replace)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_flag_exists() {
        let mut cli = Cli::command();
        cli.build();
        let serve = cli.find_subcommand("serve").unwrap();
        for (_, flag) in FLAGS {
            let long = flag.strip_prefix("--").unwrap();
            assert!(serve.get_arguments().any(|arg| arg.get_long() == Some(long)), "{flag}");
        }
    }

    #[test]
    fn options_are_replaced_and_fields_of_files_are_not() {
        let message = "`kv_cache_mib` 1: too small; config.json: `chains`";
        assert_eq!(with_flags(message), "--kv-cache-mb 1: too small; config.json: `chains`");
        let field = "config.json: `dtype` = \"float16\": `torch_dtype` is \"float32\"";
        assert_eq!(with_flags(field), field);
        assert_eq!(with_flags("`dtype` f8: expected `cpu`"), "--dtype f8: expected --cpu");
    }
}
