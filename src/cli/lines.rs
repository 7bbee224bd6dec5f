//! Reads lines from stdin: with editing and history in a terminal, plain lines otherwise.

use std::fs;
use std::io::{stdin, stdout, BufRead, ErrorKind, IsTerminal, Read, StdinLock};
use std::path::PathBuf;

use anyhow::{bail, Context, Result};
use rustyline::error::ReadlineError;
use rustyline::DefaultEditor;

use super::output::print_stderr;

/// A source of lines.
pub enum Lines {
    /// A terminal with line editing, and a history file unless it cannot be used.
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    /// A pipe or a file, or a terminal if stdout is not one; and the lines read so far.
    Piped { stdin: StdinLock<'static>, count: usize },
}

/// The longest line of a pipe or a file, in bytes. It exceeds the context of any model.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// The largest history file, in bytes. The editor keeps 100 lines.
const MAX_HISTORY_BYTES: u64 = 16 * 1024 * 1024;

impl Lines {
    /// The lines of stdin.
    pub fn from_stdin() -> Result<Self> {
        // The line editor writes its prompt to stdout.
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Self::Piped { stdin: stdin().lock(), count: 0 });
        }
        let mut editor = DefaultEditor::new().context("cannot edit lines in this terminal")?;
        let history = history_file().and_then(|file| read_history(&mut editor, file));
        let history = history.unwrap_or_else(|error| {
            print_stderr(format!("{error}: the history is not saved"));
            None
        });
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Whether the lines come from a terminal.
    pub fn is_interactive(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// What errors call the line that was read last; None in a terminal, which shows it.
    pub fn name_of_last(&self) -> Option<String> {
        match self {
            Self::Terminal { .. } => None,
            Self::Piped { count, .. } => Some(format!("line {count} of stdin")),
        }
    }

    /// Reads the next line; a terminal shows `prompt`. None at the end of the input, or if ctrl-c is pressed twice.
    pub fn next(&mut self, prompt: &str) -> Result<Option<String>> {
        let (editor, history) = match self {
            Self::Piped { stdin, count } => {
                *count += 1;
                return piped_line(stdin).with_context(|| format!("line {count} of stdin"));
            }
            Self::Terminal { editor, history } => (editor, history),
        };
        let mut interrupted = false;
        loop {
            match editor.readline(prompt) {
                Ok(line) => {
                    let added = editor.add_history_entry(&line);
                    added.unwrap_or_else(|error| {
                        print_stderr(format!("cannot add the line to the history: {error}"));
                        false
                    });
                    if let Some(file) = history.take_if(|file| editor.append_history(file).is_err())
                    {
                        print_stderr(format!(
                            "cannot write {}: the history is not saved",
                            file.display()
                        ));
                    }
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) if interrupted => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    interrupted = true;
                    print_stderr("(press ctrl-c again to exit)");
                }
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    print_stderr("the line is not valid UTF-8: expected text");
                }
                Err(error) => bail!("cannot read from the terminal: {error}"),
            }
        }
    }
}

/// Reads the next line of `input`, without its line ending. None at the end of the input.
fn piped_line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    if input.take(MAX_LINE_BYTES + 2).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let end = if line.ends_with("\r\n") { 2 } else { usize::from(line.ends_with('\n')) };
    line.truncate(line.len() - end);
    if line.len() as u64 > MAX_LINE_BYTES {
        bail!("a line has more than {MAX_LINE_BYTES} bytes");
    }
    Ok(Some(line))
}

/// The path of `colm/history` in the user's data folder. Creates `colm`. None if there is no data folder.
fn history_file() -> Result<Option<PathBuf>, String> {
    let Some(folder) = dirs::data_local_dir().map(|folder| folder.join("colm")) else {
        return Ok(None);
    };
    let created = fs::create_dir_all(&folder);
    created.map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    Ok(Some(folder.join("history")))
}

/// Loads the history file into `editor`. Returns the file to append lines to.
fn read_history(
    editor: &mut DefaultEditor,
    file: Option<PathBuf>,
) -> Result<Option<PathBuf>, String> {
    let Some(file) = file else { return Ok(None) };
    if !file.exists() {
        return Ok(Some(file));
    }
    if !file.is_file() {
        return Err(format!("{} is not a regular file", file.display()));
    }
    if file.metadata().is_ok_and(|file| file.len() > MAX_HISTORY_BYTES) {
        return Err(format!("{} has more than {MAX_HISTORY_BYTES} bytes", file.display()));
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
    fn lines_are_split_like_str_lines() {
        let text = "a\n\r\nb\r\n\nc\r\r\nd\r";
        let mut input = text.as_bytes();
        let ours: Vec<String> = std::iter::from_fn(|| piped_line(&mut input).unwrap()).collect();
        assert_eq!(ours, text.lines().collect::<Vec<_>>());
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let error = piped_line(&mut BufReader::new(repeat(b'a'))).unwrap_err();
        assert!(error.to_string().contains("67108864 bytes"), "{error}");
    }
}
