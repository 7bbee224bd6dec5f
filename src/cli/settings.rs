//! Flags that come from the environment or from a file.
//!
//! The value of a flag is, in this order: that on the command line, that of the environment variable `COLM_FLAG`, that
//! in the file of `--config`, the default.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use clap::{Arg, ArgAction, Command};
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

/// `cli`, in which each flag of each command may come from the environment and from `file`.
///
/// # Errors
/// If the file cannot be read, or if it has a key that is no flag.
pub fn with_settings(cli: Command, file: Option<&Path>) -> Result<Command> {
    let table = match file {
        Some(file) => read(file)?,
        None => Table::new(),
    };
    let context = || format!("--config {}", file.unwrap_or(Path::new("")).display());
    let names: Vec<String> =
        cli.get_subcommands().map(|command| command.get_name().into()).collect();
    check_keys(&cli, &table).with_context(context)?;
    let mut cli = cli;
    for name in names {
        let settings = of_command(&table, &name).with_context(context)?;
        cli = cli.mut_subcommand(&name, |command| {
            command.mut_args(|arg| with_default(with_variable(arg), &settings))
        });
    }
    Ok(cli)
}

fn read(file: &Path) -> Result<Table> {
    let context = || format!("--config {}", file.display());
    let text = std::fs::read_to_string(file).with_context(context)?;
    text.parse().with_context(context)
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
            _ => (all.clone(), vec![key]),
        };
        if let Some(unknown) = section.into_iter().find(|key| !known.contains(&flag_of(key))) {
            bail!("`{unknown}` is no flag: expected the name of a flag without its dashes, or a table [COMMAND]");
        }
    }
    Ok(())
}

/// The flags for the command `name`: those outside of tables, and those of its own table.
fn of_command(table: &Table, name: &str) -> Result<Vec<(String, Vec<String>)>> {
    let own = table.get(name).and_then(Value::as_table);
    let shared = table.iter().filter(|(_, value)| !value.is_table());
    let settings = shared.chain(own.into_iter().flatten());
    settings
        .map(|(key, value)| Ok((flag_of(key), texts(value).with_context(|| format!("`{key}`"))?)))
        .collect()
}

/// `max_queue` and `max-queue` are the flag `--max-queue`.
fn flag_of(key: &str) -> String {
    key.replace('_', "-")
}

/// The values as they would be on the command line.
fn texts(value: &Value) -> Result<Vec<String>> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(number) => Ok(vec![number.to_string()]),
        Value::Float(number) => Ok(vec![number.to_string()]),
        Value::Boolean(flag) => Ok(vec![flag.to_string()]),
        Value::Array(values) => {
            let values: Result<Vec<_>> = values.iter().map(texts).collect();
            Ok(values?.concat())
        }
        Value::Datetime(_) | Value::Table(_) => {
            bail!("expected a text, a number, true, false or a list of these")
        }
    }
}

/// `arg`, which may come from the environment variable that has its name.
fn with_variable(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        return arg;
    }
    let variable = format!("COLM_{}", long.to_uppercase().replace('-', "_"));
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let arg = arg.env(variable).hide_env(true);
    if is_list {
        arg.value_delimiter(',')
    } else {
        arg
    }
}

/// `arg`, whose default is the last of `settings` for it.
fn with_default(arg: Arg, settings: &[(String, Vec<String>)]) -> Arg {
    let own = settings.iter().rev().find(|(flag, _)| arg.get_long() == Some(flag));
    match own {
        Some((_, values)) => arg.default_values(values.clone()).required(false),
        None => arg,
    }
}

#[cfg(test)]
mod tests {
    use clap::ArgMatches;

    use super::*;

    fn cli() -> Command {
        let serve = Command::new("serve").args([
            Arg::new("model").long("model").short('m').required(true),
            Arg::new("max_queue").long("max-queue").default_value("256"),
            Arg::new("no_auth").long("no-auth").action(ArgAction::SetTrue),
            Arg::new("origin").long("origin").action(ArgAction::Append),
        ]);
        let run = Command::new("run").arg(Arg::new("model").long("model").required(true));
        Command::new("colm").subcommands([serve, run])
    }

    fn serve(file: &str, arguments: &[&str]) -> Result<ArgMatches> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("colm.toml");
        std::fs::write(&path, file)?;
        let cli = with_settings(cli(), Some(&path))?;
        let matches = cli.try_get_matches_from([&["colm", "serve"], arguments].concat())?;
        Ok(matches.subcommand().map(|(_, matches)| matches.clone()).unwrap_or_default())
    }

    fn text(matches: &ArgMatches, name: &str) -> String {
        matches.get_one::<String>(name).cloned().unwrap_or_default()
    }

    #[test]
    fn flags_come_from_the_file_and_the_command_line_wins() {
        let file = "model = \"a\"\nmax_queue = 7\n[serve]\nno-auth = true\norigin = [\"x\", \"y\"]\n[run]\nmodel = \"b\"\n";
        let matches = serve(file, &[]).unwrap();
        assert_eq!(
            (text(&matches, "model"), text(&matches, "max_queue")),
            ("a".into(), "7".into())
        );
        assert!(matches.get_flag("no_auth"));
        let origins: Vec<&String> = matches.get_many("origin").unwrap().collect();
        assert_eq!(origins, ["x", "y"]);
        let matches = serve(file, &["--max-queue", "8", "-m", "c"]).unwrap();
        assert_eq!(
            (text(&matches, "model"), text(&matches, "max_queue")),
            ("c".into(), "8".into())
        );
        let own = "max-queue = 1\nmodel = \"a\"\n[serve]\nmax-queue = 2";
        assert_eq!(text(&serve(own, &[]).unwrap(), "max_queue"), "2");
    }

    #[test]
    fn keys_that_are_no_flags_are_refused() {
        for (file, named) in [
            ("max_que = 7", "`max_que` is no flag"),
            ("[serve]\nmodle = \"a\"", "`modle` is no flag"),
            ("[sevre]\nmodel = \"a\"", "`sevre` is no flag"),
            ("[run]\nmax_queue = 1", "`max_queue` is no flag"),
            ("model = 1979-05-27", "`model`"),
            ("model = ", "--config"),
        ] {
            let error = format!("{:#}", serve(file, &[]).unwrap_err());
            assert!(error.contains(named) && error.contains("colm.toml"), "{file}: {error}");
        }
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
