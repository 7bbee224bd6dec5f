//! Tags that minijinja does not have, or treats differently, expressed in tags that it has.
//!
//! `{% generation %}` and `{% endgeneration %}` mark what the model wrote, for training. In a prompt they
//! only open a scope, as `with` does. The text between `{% raw %}` and `{% endraw %}` keeps its first
//! newline, which minijinja trims with `trim_blocks`. [`known_code`] rewrites the code inside tags.

use minijinja::{Error, ErrorKind};

use super::literals::known_code;
use super::rewrite::GENERATION;

/// `source` with tags that minijinja can parse.
pub fn known_tags(source: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut open_generations = 0usize;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        let (tag, after) = rest[start..].split_at(tag_end(&rest[start..]));
        rest = after;
        match word(tag) {
            Some("generation") => {
                open_generations += 1;
                out.push_str(&tag.replacen("generation", &format!("with {GENERATION}=true"), 1));
            }
            // An unmatched tag stays, so that the error names it.
            Some("endgeneration") if open_generations > 0 => {
                open_generations -= 1;
                out.push_str(&tag.replacen("endgeneration", "endwith", 1));
            }
            Some("raw") => rest = write_raw(&mut out, tag, after),
            _ if tag.starts_with("{{") || tag.starts_with("{%") => {
                let code = known_code(tag);
                out.push_str(&code.map_err(|what| {
                    let line = out.matches('\n').count() + 1;
                    Error::new(ErrorKind::SyntaxError, format!("{what} (line {line})"))
                })?);
            }
            _ => out.push_str(tag),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Writes a raw block, which begins with `tag`, as `{% if true %}{{ "text" }}{% endif %}`. Its tags keep
/// the whitespace control of the raw block. Returns the text after the block.
fn write_raw<'a>(out: &mut String, tag: &str, after: &'a str) -> &'a str {
    let (text, end) = after.split_at(raw_end(after));
    let (end, rest) = end.split_at(tag_end(end));
    let text = if tag.ends_with("-%}") { text.trim_start() } else { text };
    let text = if end.starts_with("{%-") { text.trim_end() } else { text };
    out.push_str(&tag.replacen("raw", "if true", 1));
    out.push_str("{{\"");
    out.push_str(&text.replace('\\', "\\\\").replace('"', "\\\""));
    out.push_str("\"}}");
    out.push_str(&end.replacen("endraw", "endif", 1));
    rest
}

/// The word of a tag `{% word %}` that contains nothing else.
fn word(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    Some(inside.trim_matches(['-', '+']).trim())
}

/// The end of the tag, expression or comment at the beginning of `text`. Delimiters in its strings do not count.
fn tag_end(text: &str) -> usize {
    let end = match text.get(..2) {
        Some("{#") => return text.find("#}").map_or(text.len(), |end| end + 2),
        Some("{%") => "%}",
        Some("{{") => "}}",
        _ => return 1,
    };
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if text[index..].starts_with(end) => return index + 2,
            None => {}
        }
    }
    text.len()
}

/// The position of the tag `endraw`.
fn raw_end(text: &str) -> usize {
    let mut from = 0;
    while let Some(start) = text[from..].find("{%") {
        let start = from + start;
        let end = start + tag_end(&text[start..]);
        if word(&text[start..end]) == Some("endraw") {
            return start;
        }
        from = start + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_scopes() {
        for (source, expected) in [
            ("{% generation %}a{% endgeneration %}", "{% with generation__=true %}a{% endwith %}"),
            (
                "{%- generation -%}a{%- endgeneration +%}",
                "{%- with generation__=true -%}a{%- endwith +%}",
            ),
            ("{%generation%}a{%endgeneration%}", "{%with generation__=true%}a{%endwith%}"),
        ] {
            assert_eq!(known_tags(source).unwrap(), expected);
        }
    }

    #[test]
    fn raw_text_becomes_an_expression() {
        let expected = "{%- if true %}{{\"\n{% generation %}\\\"\\\\\"}}{% endif -%} a";
        assert_eq!(
            known_tags("{%- raw %}\n{% generation %}\"\\{% endraw -%} a").unwrap(),
            expected
        );
        assert_eq!(
            known_tags("{% raw -%} a {%- endraw %}").unwrap(),
            "{% if true -%}{{\"a\"}}{%- endif %}"
        );
    }

    #[test]
    fn other_text_is_unchanged() {
        for source in [
            "{{ \"{% generation %}\" }}",
            "{# {% generation %} {% raw %} #}",
            "{% if add_generation_prompt %}generation{% endif %}",
            "{% set generation = \"%}{% generation %}\" %}",
            "{ % generation %}",
            "{%",
            "{{ 'é",
        ] {
            assert_eq!(known_tags(source).unwrap(), source);
        }
    }
}
