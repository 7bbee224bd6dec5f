//! Flags that come from the environment.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};

/// `cli`, in which each flag of each command may come from the environment.
pub fn with_variables(mut cli: Command) -> Command {
    let names: Vec<String> =
        cli.get_subcommands().map(|command| command.get_name().into()).collect();
    for name in names {
        let of_command = |arg| with_variable(&name, arg);
        cli = cli.mut_subcommand(&name, |command| command.mut_args(of_command));
    }
    cli
}

/// Flags whose meaning differs from that of the same flags of `colm run` and `colm serve`. Their variables begin with the name
/// of the command: `COLM_BENCH_CHAINS`.
const OWN_MEANING: [(&str, &str); 3] =
    [("bench", "prompt"), ("bench", "chains"), ("perplexity", "chains")];

/// The environment variable of the flag `long` of a command.
fn variable(command: &str, long: &str) -> String {
    let name = long.to_uppercase().replace('-', "_");
    if OWN_MEANING.contains(&(command, long)) {
        format!("COLM_{}_{name}", command.to_uppercase())
    } else {
        format!("COLM_{name}")
    }
}

/// The variable that the value of a refused flag comes from, if it does. `error` is of a command line of `arguments`.
pub fn refused_variable(
    cli: &Command,
    error: &clap::Error,
    arguments: &[OsString],
) -> Option<String> {
    let Some(ContextValue::String(refused)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // Such as `--max-queue <N>`.
    variable_of(cli, refused.split_whitespace().next()?, arguments)
}

/// The variable that the value of a flag comes from, if it does and if `message` begins with the flag.
pub fn blamed_variable(cli: &Command, message: &str, arguments: &[OsString]) -> Option<String> {
    let end = message.find([' ', ':']).unwrap_or(message.len());
    variable_of(cli, &message[..end], arguments)
}

/// The variable that the value of `flag` comes from, if it is set and `arguments` do not have the flag.
fn variable_of(cli: &Command, flag: &str, arguments: &[OsString]) -> Option<String> {
    let long = flag.strip_prefix("--")?;
    let mut words = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    let command = words.find_map(|word| cli.find_subcommand(word))?;
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long))?;
    let short = arg.get_short().map(|short| format!("-{short}"));
    let is_flag = |word: &str| {
        let is_short = short.as_ref().is_some_and(|short| word.starts_with(short.as_str()));
        word.split('=').next() == Some(flag) || is_short
    };
    if words.any(is_flag) {
        return None;
    }
    let variable = variable(command.get_name(), long);
    std::env::var_os(&variable).map(|_| variable)
}

/// `arg` of a command, which may come from the environment variable that has its name. A negative number is a value, which
/// its parser may refuse, not an unknown flag.
fn with_variable(command: &str, arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        return arg;
    }
    let variable = variable(command, long);
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let takes_value = is_list || matches!(arg.get_action(), ArgAction::Set);
    let arg = arg.env(variable).hide_env(true).allow_negative_numbers(takes_value);
    if is_list {
        arg.value_delimiter(',')
    } else {
        arg
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// It would be taken for a flag.
    #[test]
    fn a_negative_number_is_a_value() {
        let cli = with_variables(Cli::command());
        for command in cli.get_subcommands() {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let (name, Some(long)) = (command.get_name(), arg.get_long()) else { continue };
                let flag = format!("--{long}");
                let refused = cli.clone().try_get_matches_from(["colm", name, &flag, "-1"]);
                let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(!error.contains("unexpected argument"), "{name} {flag} -1: {error}");
                assert!(!error.contains("invalid digit"), "{name} {flag} -1: {error}");
            }
        }
    }

    /// Otherwise an exported variable would break the other commands.
    #[test]
    fn a_variable_has_one_meaning() {
        let mut meanings = BTreeMap::new();
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
                let variable = variable(command.get_name(), arg.get_long().unwrap());
                let names = arg.get_value_names().map(<[_]>::to_vec);
                let first = meanings.entry(variable.clone()).or_insert_with(|| names.clone());
                assert_eq!(*first, names, "{variable} of colm {}", command.get_name());
            }
        }
    }
}
