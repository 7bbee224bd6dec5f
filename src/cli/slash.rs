//! The commands of the chat: lines that start with `/`.

use thiserror::Error;

/// A command of the chat.
#[derive(Debug, PartialEq, Eq)]
pub enum Slash {
    /// Continue at another chain count, which is not parsed yet.
    Chains(String),
    /// Show the token counts and speeds so far.
    Stats,
    /// Start a new conversation.
    Reset,
    /// List the commands.
    Help,
    /// Exit.
    Exit,
}

/// The list of commands.
pub const HELP: &str = "\
/chains k   continue the conversation at k chains
/stats      show the token counts and speeds so far
/reset      start a new conversation
/help       show this list
/exit       exit (or press ctrl-d)";

/// The line is not a valid command.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidSlash {
    /// There is no such command.
    #[error("{0:?} is not a command: expected /chains k, /stats, /reset, /help or /exit")]
    Unknown(String),
    /// `/chains` without one number.
    #[error("{0:?}: expected one chain count, as in /chains 1")]
    Chains(String),
}

/// Parses a command. None if the line is a message to the model.
pub fn parse_slash(line: &str) -> Option<Result<Slash, InvalidSlash>> {
    let line = line.trim();
    if !line.starts_with('/') {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    Some(match words.as_slice() {
        ["/chains", k] => Ok(Slash::Chains(k.to_string())),
        ["/stats"] => Ok(Slash::Stats),
        ["/reset"] => Ok(Slash::Reset),
        ["/help"] => Ok(Slash::Help),
        ["/exit"] => Ok(Slash::Exit),
        ["/chains", ..] => Err(InvalidSlash::Chains(line.into())),
        _ => Err(InvalidSlash::Unknown(line.into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_start_with_a_slash() {
        assert_eq!(parse_slash("/chains 2"), Some(Ok(Slash::Chains("2".into()))));
        assert_eq!(parse_slash("  /stats "), Some(Ok(Slash::Stats)));
        assert_eq!(parse_slash("/reset"), Some(Ok(Slash::Reset)));
        assert_eq!(parse_slash("/help"), Some(Ok(Slash::Help)));
        assert_eq!(parse_slash("/exit"), Some(Ok(Slash::Exit)));
        assert_eq!(parse_slash("what is 1/2?"), None);
    }

    #[test]
    fn errors_say_what_is_expected_on_one_line() {
        for line in ["/chain 2", "/", "/exit now"] {
            let refused = parse_slash(line).unwrap().unwrap_err().to_string();
            assert!(refused.contains(line) && refused.contains("/reset"), "{refused}");
            assert!(!refused.contains('\n'), "{refused}");
        }
        for line in ["/chains", "/chains 1 2"] {
            let refused = parse_slash(line).unwrap().unwrap_err().to_string();
            assert_eq!(refused, format!("{line:?}: expected one chain count, as in /chains 1"));
        }
    }
}
