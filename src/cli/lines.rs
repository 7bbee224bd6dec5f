//! What the user types: with editing and history in a terminal, plain lines otherwise.

use std::fs;
use std::io::{stdin, stdout, BufRead, IsTerminal, Read, StdinLock};
use std::path::PathBuf;

use anyhow::{bail, Context, Result};
use rustyline::error::ReadlineError;
use rustyline::DefaultEditor;

use super::output::tell;

/// Where lines come from.
pub enum Lines {
    /// A person, with a history that outlives the process.
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    /// A pipe, a file, or a person whose answers go elsewhere.
    Piped(StdinLock<'static>),
}

/// The longest line of a pipe or a file, in bytes: more than any model takes.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// The largest history file, in bytes. The editor keeps 100 lines.
const LARGEST_HISTORY: u64 = 16 * 1024 * 1024;

impl Lines {
    /// Those of stdin.
    pub fn of_stdin() -> Result<Self> {
        // Where lines are edited, the prompt goes to stdout.
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Self::Piped(stdin().lock()));
        }
        let mut editor = DefaultEditor::new().context("cannot edit lines in this terminal")?;
        let history = history_file().and_then(|file| read_history(&mut editor, file));
        let history = history.unwrap_or_else(|why| {
            tell(format!("{why}: lines are not kept"));
            None
        });
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Whether a person types them and sees the answers.
    pub fn terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line, after `prompt` in a terminal; None at the end, or where ctrl-c is pressed twice.
    pub fn next(&mut self, prompt: &str) -> Result<Option<String>> {
        let (editor, history) = match self {
            Self::Piped(stdin) => return piped_line(stdin).context("stdin"),
            Self::Terminal { editor, history } => (editor, history),
        };
        let mut interrupted = false;
        loop {
            match editor.readline(prompt) {
                Ok(line) => {
                    let added = editor.add_history_entry(&line);
                    added.unwrap_or_else(|error| {
                        tell(format!("the line is not kept in the history: {error}"));
                        false
                    });
                    if let Some(file) = history.take_if(|file| editor.append_history(file).is_err())
                    {
                        tell(format!("cannot write {}: lines are not kept", file.display()));
                    }
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) if interrupted => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    interrupted = true;
                    tell("(ctrl-c once more leaves)");
                }
                Err(error) => bail!("cannot read from the terminal: {error}"),
            }
        }
    }
}

/// The next line of `input`, without its end; None at the end.
fn piped_line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    if input.take(LONGEST_LINE + 2).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let end = if line.ends_with("\r\n") { 2 } else { usize::from(line.ends_with('\n')) };
    line.truncate(line.len() - end);
    if line.len() as u64 > LONGEST_LINE {
        bail!("a line has more than {LONGEST_LINE} bytes");
    }
    Ok(Some(line))
}

/// `colm/history` in the user's data folder, which is made if need be; None without such a folder.
fn history_file() -> Result<Option<PathBuf>, String> {
    let Some(folder) = dirs::data_local_dir().map(|folder| folder.join("colm")) else {
        return Ok(None);
    };
    let made = fs::create_dir_all(&folder);
    made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(Some(folder.join("history")))
}

/// The file that lines are kept in, whose lines `editor` knows now.
fn read_history(
    editor: &mut DefaultEditor,
    file: Option<PathBuf>,
) -> Result<Option<PathBuf>, String> {
    let Some(file) = file else { return Ok(None) };
    if !file.exists() {
        return Ok(Some(file));
    }
    if !file.is_file() {
        return Err(format!("{} is no regular file", file.display()));
    }
    if file.metadata().is_ok_and(|file| file.len() > LARGEST_HISTORY) {
        return Err(format!("{} has more than {LARGEST_HISTORY} bytes", file.display()));
    }
    match editor.load_history(&file) {
        Ok(()) => Ok(Some(file)),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{repeat, BufReader};

    use super::*;

    #[test]
    fn lines_end_where_those_of_the_standard_library_do() {
        let text = "a\n\r\nb\r\n\nc\r\r\nd\r";
        let mut input = text.as_bytes();
        let ours: Vec<String> = std::iter::from_fn(|| piped_line(&mut input).unwrap()).collect();
        assert_eq!(ours, text.lines().collect::<Vec<_>>());
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let error = piped_line(&mut BufReader::new(repeat(b'a'))).unwrap_err();
        assert!(error.to_string().contains("67108864 bytes"), "{error}");
    }
}
