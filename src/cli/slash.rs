//! What a line that starts with `/` asks for in a chat.

use thiserror::Error;

/// A command to the chat itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Slash {
    /// Go on at another chain count, as written.
    Chains(String),
    /// Show the speeds so far.
    Stats,
    /// Forget the conversation.
    Reset,
    /// List the commands.
    Help,
    /// Leave.
    Exit,
}

/// The commands, one per line.
pub const HELP: &str = "\
/chains k   go on at k chains, with the conversation so far
/stats      tokens and speeds so far
/reset      start a new conversation
/help       this list
/exit       leave (as does ctrl-d)";

/// What is wrong with a command.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a command; expected one of\n{HELP}")]
pub struct UnknownSlash(String);

/// The command in `line`; None if the line is said to the model.
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
    fn what_is_not_a_command_gets_the_list() {
        for line in ["/chain 2", "/chains", "/chains 1 2", "/", "/exit now"] {
            let refused = parse_slash(line).unwrap().unwrap_err().to_string();
            assert!(refused.contains(line) && refused.contains("/reset"), "{refused}");
        }
    }
}
