//! The model card: the README.md of a model folder, whose YAML front matter may list example prompts.

use std::fs;
use std::path::Path;

use colm_checkpoint::escape_control;
use serde::Deserialize;

/// The longest model card that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The longest example prompt that is shown, in characters.
const MAX_PROMPT_CHARS: usize = 200;

/// The front matter, as far as it is used. The Hugging Face hub shows `widget` as example prompts.
#[derive(Deserialize)]
struct FrontMatter {
    #[serde(default)]
    widget: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    /// Absent in examples for models whose input is not a text.
    text: Option<String>,
}

/// The first `limit` example prompts of the model in `folder`. Empty if the model card is missing or damaged, because a
/// model works without one.
pub fn example_prompts(folder: &Path, limit: usize) -> Vec<String> {
    let path = folder.join("README.md");
    // Reading a pipe would wait for a writer.
    if !fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= MAX_BYTES) {
        return Vec::new();
    }
    let card = fs::read_to_string(path).unwrap_or_default();
    let mut prompts = parse_prompts(&card).unwrap_or_default();
    prompts.truncate(limit);
    prompts
}

/// The example prompts in the front matter of `card` that fit a line. None if there is no valid front matter.
fn parse_prompts(card: &str) -> Option<Vec<String>> {
    let FrontMatter { widget } = serde_saphyr::from_str(front_matter(card)?).ok()?;
    let prompts = widget.into_iter().filter_map(|example| example.text);
    let prompts = prompts.map(|prompt| prompt.trim().to_string()).filter(|prompt| {
        let length = prompt.chars().count();
        (1..=MAX_PROMPT_CHARS).contains(&length) && escape_control(prompt) == *prompt
    });
    Some(prompts.collect())
}

/// The text between the line `---` that `card` begins with and the next one.
fn front_matter(card: &str) -> Option<&str> {
    let is_fence = |line: &str| line.trim_end() == "---";
    let mut lines = card.split_inclusive('\n');
    let start = lines.next().filter(|line| is_fence(line))?.len();
    let mut end = start;
    for line in lines {
        if is_fence(line) {
            return Some(&card[start..end]);
        }
        end += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "---
license: apache-2.0
tags: [colm, colm-air]
widget:
  - text: What is 27 + 58?
    example_title: Sum
  - src: https://example.org/cat.png
  - text: \"Sort: 3, 1.\"
  - text: |
      two
      lines
  - text: >
      folded
      line
---
# A model

---
widget: []
";

    #[test]
    fn the_prompts_are_the_texts_of_the_widget() {
        let expected = ["What is 27 + 58?", "Sort: 3, 1.", "folded line"];
        assert_eq!(parse_prompts(CARD).unwrap(), expected);
        assert_eq!(parse_prompts(&CARD.replace('\n', "\r\n")).unwrap(), expected);
    }

    #[test]
    fn a_card_without_prompts_or_a_damaged_one_has_none() {
        for card in [
            "",
            "# A model",
            "---",
            "---\nwidget:\n  - text: no end",
            "text before\n---\nwidget:\n  - text: a\n---\n",
            "---\n---\n",
            "---\nlicense: mit\n---\n",
            "---\nwidget: false\n---\n",
            "---\nwidget: {text: a}\n---\n",
            "---\nwidget:\n  - text: [a]\n---\n",
            "---\nwidget:\n  - text: \"\"\n---\n",
            "---\nwidget:\n  - text: \"\\e[2J\"\n---\n",
            "---\nwidget: [{text: a}\n---\n",
            "---\nwidget: *nothing\n---\n",
        ] {
            assert!(parse_prompts(card).unwrap_or_default().is_empty(), "{card}");
        }
        let long = format!("---\nwidget:\n  - text: {}\n---\n", "a".repeat(201));
        assert!(parse_prompts(&long).unwrap().is_empty());
    }

    #[test]
    fn a_card_that_is_cut_anywhere_is_no_error() {
        for end in 0..CARD.len() {
            parse_prompts(&CARD[..end]);
            parse_prompts(&format!("{}\n---\n", &CARD[..end]));
        }
    }

    #[test]
    fn the_card_is_read_from_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let prompts = || example_prompts(folder.path(), 2);
        assert!(prompts().is_empty());
        let card = folder.path().join("README.md");
        fs::write(&card, CARD).unwrap();
        assert_eq!(prompts(), ["What is 27 + 58?", "Sort: 3, 1."]);
        fs::write(&card, [CARD.as_bytes(), &vec![b' '; MAX_BYTES as usize]].concat()).unwrap();
        assert!(prompts().is_empty());
        fs::write(&card, [CARD.as_bytes(), b"\xff"].concat()).unwrap();
        assert!(prompts().is_empty());
        fs::remove_file(&card).unwrap();
        fs::create_dir(&card).unwrap();
        assert!(prompts().is_empty());
    }
}
