//! Flags that come from a file.
//!
//! The value of a flag is, in this order: that on the command line, that of the environment variable `COLM_FLAG`, that
//! in the file of `--config`, the default.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Context, Result};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

/// Where the file of flags comes from if `--config` is not given.
const CONFIG_VARIABLE: &str = "COLM_CONFIG";

/// The file that `arguments` or the environment name.
pub fn config_file(arguments: &[OsString]) -> Option<PathBuf> {
    let mut found = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            found = arguments.next().map(PathBuf::from);
        } else if let Some(file) = argument.to_str().and_then(|text| text.strip_prefix("--config="))
        {
            found = Some(file.into());
        }
    }
    found.or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from))
}

/// `arguments`, with the flags of `file` that neither they nor the environment have. They follow the name of the command
/// as if they had been given there, so that clap checks them like all others.
///
/// # Errors
/// If the file cannot be read, or if it has a key that is not a flag or a value that its flag does not take.
pub fn with_settings(
    cli: &Command,
    file: &Path,
    arguments: Vec<OsString>,
) -> Result<Vec<OsString>> {
    let context = || format!("--config {}", file.display());
    let given = match cli.clone().try_get_matches_from(&arguments) {
        Ok(given) if given.subcommand_name().is_some_and(|name| !has_flags(cli, name)) => {
            return Ok(arguments);
        }
        Ok(given) => given,
        Err(error) if !error.use_stderr() => return Ok(arguments),
        // The file may have what is missing.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            cli.clone().ignore_errors(true).try_get_matches_from(&arguments)?
        }
        Err(_) => return Ok(arguments),
    };
    let table = read(file)?;
    check_keys(cli, &table).with_context(context)?;
    let Some((name, given)) = given.subcommand() else { return Ok(arguments) };
    let command = cli.find_subcommand(name).context("an unknown command")?;
    let settings = of_command(&table, name);
    let mut flags = Vec::new();
    for (key, value) in settings.iter().filter(|(key, _)| !is_given(command, given, key)) {
        if let Some(arg) = flag(command, key) {
            flags.extend(
                on_command_line(arg, value)
                    .with_context(|| format!("`{key}`"))
                    .with_context(context)?,
            );
        }
    }
    let at = position(&arguments, name);
    Ok([&arguments[..at], &flags, &arguments[at..]].concat())
}

/// Whether a command has flags: `colm kv-store` has commands of its own.
fn has_flags(cli: &Command, name: &str) -> bool {
    cli.find_subcommand(name).is_some_and(|command| !command.has_subcommands())
}

/// The index after the name of the command.
fn position(arguments: &[OsString], name: &str) -> usize {
    let mut after_program = arguments.iter().skip(1);
    after_program.position(|argument| argument == name).map_or(arguments.len(), |at| at + 2)
}

/// Whether the command line or the environment has the flag of `key`, or one that it conflicts with.
fn is_given(command: &Command, given: &ArgMatches, key: &str) -> bool {
    let is_explicit = |arg: &Arg| {
        let source = given.value_source(arg.get_id().as_str());
        source.is_some_and(|source| source != ValueSource::DefaultValue)
    };
    let excludes = |one: &Arg, other: &Arg| {
        command
            .get_arg_conflicts_with(one)
            .iter()
            .any(|conflict| conflict.get_id() == other.get_id())
    };
    flag(command, key).is_some_and(|arg| {
        let mut explicit = command.get_arguments().filter(|other| is_explicit(other));
        explicit.any(|other| {
            other.get_id() == arg.get_id() || excludes(arg, other) || excludes(other, arg)
        })
    })
}

/// The flag that `key` names.
fn flag<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(&flag_of(key)))
}

fn read(file: &Path) -> Result<Table> {
    let context = || format!("--config {}", file.display());
    let text = std::fs::read_to_string(file).with_context(context)?;
    text.parse().map_err(|error| syntax_error(&text, &error)).with_context(context)
}

/// `error` on one line, with its place.
fn syntax_error(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&character| character != '\n').count() + 1;
    let message: Vec<&str> = error.message().lines().collect();
    anyhow!("line {line}, column {column}: {}", message.join(": "))
}

/// Fails if `table` has a key that is neither a command nor a flag of a command.
fn check_keys(cli: &Command, table: &Table) -> Result<()> {
    let flags = |command: &Command| -> Vec<String> {
        command.get_arguments().filter_map(|arg| arg.get_long().map(String::from)).collect()
    };
    let all: Vec<String> = cli.get_subcommands().flat_map(flags).collect();
    for (key, value) in table {
        let (known, section) = match (cli.find_subcommand(key), value) {
            (Some(command), Value::Table(section)) => (flags(command), section.keys().collect()),
            (None, Value::Table(_)) => bail!("[{key}]: no command has this name"),
            _ => (all.clone(), vec![key]),
        };
        if section.iter().any(|key| *key == "config") {
            bail!("`config`: the file cannot name another file, expected no such key");
        }
        if let Some(unknown) = section.iter().find(|key| !known.contains(&flag_of(key))) {
            bail!("`{unknown}` is not a flag: expected the name of a flag without its dashes, or a table [COMMAND]");
        }
    }
    Ok(())
}

/// The settings for the command `name`: those outside of tables that its own table does not have, and those of that
/// table.
fn of_command<'a>(table: &'a Table, name: &str) -> Vec<(&'a str, &'a Value)> {
    let own = table.get(name).and_then(Value::as_table);
    let is_own =
        |key: &str| own.is_some_and(|own| own.keys().any(|one| flag_of(one) == flag_of(key)));
    let shared = table.iter().filter(|(key, value)| !value.is_table() && !is_own(key));
    shared.chain(own.into_iter().flatten()).map(|(key, value)| (key.as_str(), value)).collect()
}

/// `max_queue` and `max-queue` are the flag `--max-queue`.
fn flag_of(key: &str) -> String {
    key.replace('_', "-")
}

/// A setting as it would be on the command line.
fn on_command_line(arg: &Arg, value: &Value) -> Result<Vec<OsString>> {
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    let with_value = |value: &Value| Ok(format!("{flag}={}", text(value)?).into());
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(true)) => Ok(vec![flag.into()]),
        (ArgAction::SetTrue, Value::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => bail!("expected true or false"),
        (ArgAction::Append, Value::Array(values)) => values.iter().map(with_value).collect(),
        (_, Value::Array(_)) => bail!(
            "expected one value, not a list; a flag such as --elastic takes one text with commas"
        ),
        _ => Ok(vec![with_value(value)?]),
    }
}

fn text(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Array(_) | Value::Datetime(_) | Value::Table(_) => {
            bail!("expected a text, a number, true or false")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::variables::with_variables;

    fn cli() -> Command {
        let serve = Command::new("serve").args([
            Arg::new("model").long("model").short('m').required(true),
            Arg::new("max_queue").long("max-queue").default_value("256"),
            Arg::new("no_auth").long("no-auth").action(ArgAction::SetTrue),
            Arg::new("origin").long("origin").action(ArgAction::Append),
            Arg::new("cert").long("tls-cert").requires("key"),
            Arg::new("key").long("tls-key").requires("cert"),
            Arg::new("prompt").long("prompt").conflicts_with("no_auth"),
        ]);
        let run = Command::new("run").arg(Arg::new("model").long("model").required(true));
        Command::new("colm").subcommands([serve, run])
    }

    fn serve(file: &str, arguments: &[&str]) -> Result<ArgMatches> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("colm.toml");
        std::fs::write(&path, file)?;
        let cli = with_variables(cli());
        let given = ["colm", "serve"].iter().chain(arguments).map(OsString::from).collect();
        let arguments = with_settings(&cli, &path, given)?;
        let matches = cli.try_get_matches_from(arguments)?;
        Ok(matches.subcommand().map(|(_, matches)| matches.clone()).unwrap_or_default())
    }

    fn value(matches: &ArgMatches, name: &str) -> String {
        matches.get_one::<String>(name).cloned().unwrap_or_default()
    }

    #[test]
    fn flags_come_from_the_file_and_the_command_line_wins() {
        let file = "model = \"a\"\nmax_queue = 7\n[serve]\nno-auth = true\norigin = [\"x\", \"y\"]\n[run]\nmodel = \"b\"\n";
        let matches = serve(file, &[]).unwrap();
        assert_eq!(
            (value(&matches, "model"), value(&matches, "max_queue")),
            ("a".into(), "7".into())
        );
        assert!(matches.get_flag("no_auth"));
        let origins: Vec<&String> = matches.get_many("origin").unwrap().collect();
        assert_eq!(origins, ["x", "y"]);
        let matches = serve(file, &["--max-queue", "8", "-m", "c"]).unwrap();
        assert_eq!(
            (value(&matches, "model"), value(&matches, "max_queue")),
            ("c".into(), "8".into())
        );
        let own = "max-queue = 1\nmodel = \"a\"\n[serve]\nmax-queue = 2";
        assert_eq!(value(&serve(own, &[]).unwrap(), "max_queue"), "2");
    }

    #[test]
    fn keys_that_are_no_flags_are_refused() {
        for (file, named) in [
            ("max_que = 7", "`max_que` is not a flag"),
            ("[serve]\nmodle = \"a\"", "`modle` is not a flag"),
            ("[sevre]\nmodel = \"a\"", "[sevre]: no command has this name"),
            ("[run]\nmax_queue = 1", "`max_queue` is not a flag"),
            ("model = 1979-05-27", "`model`"),
            ("max_queue = 1\nmodel = ", "--config"),
            ("max_queue = 1\nmodel = ", "line 2, column 9: "),
            ("config = \"b.toml\"", "`config`: the file cannot name another"),
            ("model = [\"8:2\", \"16:1\"]", "takes one text with commas"),
            ("[max_queue]\nmodel = 1", "[max_queue]: no command has this name"),
            ("model = [\"a\", \"b\"]", "`model`: expected one value, not a list"),
            ("no-auth = \"maybe\"", "`no-auth`: expected true or false"),
            ("origin = [[\"a\"]]", "`origin`: expected a text"),
        ] {
            let error = format!("{:#}", serve(file, &[]).unwrap_err());
            assert!(error.contains(named) && error.contains("colm.toml"), "{file}: {error}");
            assert!(!error.contains('\n'), "{file}: {error}");
        }
    }

    #[test]
    fn the_file_is_not_read_for_help() {
        for arguments in [["colm", "--help"], ["colm", "--version"]] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let unchanged = with_settings(&cli(), Path::new("missing.toml"), arguments.clone());
            assert_eq!(unchanged.unwrap(), arguments);
        }
    }

    #[test]
    fn flags_of_the_file_need_each_other_as_those_of_the_command_line_do() {
        let alone = "model = \"a\"\ntls-cert = \"c.pem\"";
        let error = serve(alone, &[]).unwrap_err().to_string();
        assert!(error.contains("--tls-key"), "{error}");
        let matches = serve(alone, &["--tls-key", "k.pem"]).unwrap();
        assert_eq!(
            (value(&matches, "cert"), value(&matches, "key")),
            ("c.pem".into(), "k.pem".into())
        );
        let both = "model = \"a\"\ntls-cert = \"c.pem\"\ntls-key = \"k.pem\"";
        assert_eq!(value(&serve(both, &["--tls-key", "x"]).unwrap(), "key"), "x");
    }

    #[test]
    fn a_flag_of_the_file_gives_way_to_one_that_excludes_it() {
        let matches = serve("model = \"a\"\nprompt = \"b\"", &["--no-auth"]).unwrap();
        assert!(matches.get_flag("no_auth") && !matches.contains_id("prompt"));
        let matches = serve("model = \"a\"\nno-auth = true", &["--prompt", "c"]).unwrap();
        assert!(!matches.get_flag("no_auth") && value(&matches, "prompt") == "c");
    }

    #[test]
    fn mistakes_on_the_command_line_come_first() {
        let error = serve("model = \"a\"", &["--modle", "b", "--model", "c"]).unwrap_err();
        assert!(error.to_string().contains("--modle"), "{error}");
    }

    #[test]
    fn the_file_is_named_on_the_command_line() {
        let file = |arguments: &[&str]| {
            config_file(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
        };
        assert_eq!(file(&["serve", "--config", "a.toml"]), Some("a.toml".into()));
        assert_eq!(file(&["serve", "--config=b.toml", "-m", "x"]), Some("b.toml".into()));
    }
}
