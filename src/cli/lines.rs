//! What the user types: with editing and history in a terminal, plain lines otherwise.

use std::fs;
use std::io::{stdin, IsTerminal, Lines as PlainLines, StdinLock};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::DefaultEditor;

/// Where lines come from.
pub enum Lines {
    /// A person, with a history that outlives the process.
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    /// A pipe or a file.
    Piped(PlainLines<StdinLock<'static>>),
}

impl Lines {
    /// Those of stdin.
    pub fn of_stdin() -> Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Self::Piped(stdin().lines()));
        }
        let mut editor = DefaultEditor::new().context("cannot edit lines in this terminal")?;
        let history = history_file();
        if let Some(file) = history.as_ref().filter(|file| file.exists()) {
            editor.load_history(file).with_context(|| format!("cannot read {}", file.display()))?;
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Whether a person types them.
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
                    if let Some(file) = history {
                        editor
                            .append_history(file)
                            .with_context(|| format!("cannot write {}", file.display()))?;
                    }
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) if interrupted => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    interrupted = true;
                    eprintln!("(ctrl-c once more leaves)");
                }
                Err(error) => return Err(error).context("cannot read from the terminal"),
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
