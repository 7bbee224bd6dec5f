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
#[error("{0:?} is not a command: expected one of\n{HELP}")]
pub struct UnknownSlash(String);

/// Parses a command. None if the line is a message to the model.
pub fn parse_slash(line: &str) -> Option<Result<Slash, UnknownSlash>> {
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
        _ => Err(UnknownSlash(line.into())),
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
    fn the_error_lists_the_commands() {
        for line in ["/chain 2", "/chains", "/chains 1 2", "/", "/exit now"] {
            let refused = parse_slash(line).unwrap().unwrap_err().to_string();
            assert!(refused.contains(line) && refused.contains("/reset"), "{refused}");
        }
    }
}
