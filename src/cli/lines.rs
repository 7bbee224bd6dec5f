//! What the user types: with editing and history in a terminal, plain lines otherwise.

use std::fs;
use std::io::{stdin, stdout, IsTerminal, Lines as PlainLines, StdinLock};
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
    Piped(PlainLines<StdinLock<'static>>),
}

impl Lines {
    /// Those of stdin.
    pub fn of_stdin() -> Result<Self> {
        // Where lines are edited, the prompt goes to stdout.
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Self::Piped(stdin().lines()));
        }
        let mut editor = DefaultEditor::new().context("cannot edit lines in this terminal")?;
        let mut history = history_file();
        if let Some(file) =
            history.take_if(|file| file.exists() && editor.load_history(file).is_err())
        {
            tell(format!("cannot read {}: lines are not kept", file.display()));
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Whether a person types them and sees the answers.
    pub fn terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line, after `prompt` in a terminal; None at the end, or where ctrl-c is pressed twice.
    pub fn next(&mut self, prompt: &str) -> Result<Option<String>> {
        let (editor, history) = match self {
            Self::Piped(lines) => return lines.next().transpose().context("stdin"),
            Self::Terminal { editor, history } => (editor, history),
        };
        let mut interrupted = false;
        loop {
            match editor.readline(prompt) {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
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

/// `colm/history` in the user's data folder, which is made if need be; None without such a folder.
fn history_file() -> Option<PathBuf> {
    let folder = dirs::data_local_dir()?.join("colm");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
