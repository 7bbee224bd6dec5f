//! A chat template rewritten so that everything it computes is checked while it renders.
//!
//! minijinja's fuel counts instructions. It does not see that one instruction doubles a string, and its operators
//! differ from Python's in a few places. So the template is parsed, and written out again as an equal template in
//! which every filter and call goes through the checks of [`super::budget`], operators are the filters of
//! [`super::operators`], and macros are those of [`super::macros`]. Text between tags becomes an expression, so that
//! it is counted as well. Statements keep their line numbers, which error messages show.

mod blocks;
mod expressions;
mod macros;
mod names;
mod operators;

use std::fmt::Write;

use blocks::leaves_iteration;
use expressions::signs;
use minijinja::machinery::ast::{Expr, ForLoop, IfCond, List, Spanned, Stmt};
use minijinja::machinery::{parse, WhitespaceConfig};
use minijinja::{Error, ErrorKind};
pub use names::*;

/// `source` with every result checked, or what is wrong with its syntax.
pub fn rewrite(source: &str) -> Result<String, Error> {
    // As transformers sets up Jinja.
    let whitespace =
        WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
    let template = parse(source, "chat_template", Default::default(), whitespace)?;
    let mut writer =
        Writer { source, out: String::with_capacity(2 * source.len()), ..Writer::default() };
    writer.statement(&template)?;
    Ok(writer.out)
}

#[derive(Default)]
struct Writer<'a> {
    source: &'a str,
    out: String,
    /// How many ends of lines `out` has.
    lines: u16,
    /// How many variables of ours there are.
    variables: usize,
    /// Whether there is a loop that `break` leaves.
    in_loop: bool,
    /// For every block inside the current loop that minijinja does not leave with it, the variable that says how the
    /// iteration ends.
    blocks: Vec<String>,
    /// The special variables that the current macro reads.
    special: macros::Special,
}

type Written = Result<(), Error>;

impl Writer<'_> {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Opens a tag on `line`.
    fn open(&mut self, tag: &str, line: u16) {
        self.push(tag);
        while self.lines + 1 < line {
            self.out.push('\n');
            self.lines += 1;
        }
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Written {
        match statement {
            Stmt::Template(template) => return self.statements(&template.children),
            Stmt::EmitRaw(raw) => {
                self.open("{{", raw.span().start_line);
                self.string(raw.raw);
                self.push("}}");
            }
            Stmt::EmitExpr(emit) => {
                self.open("{{", emit.span().start_line);
                match &emit.expr {
                    // What is written is counted as it is written. A call here may also be a recursion of a loop.
                    Expr::Call(call) if signs(&emit.expr) == 0 => self.call(call, None)?,
                    expression => self.expression(expression)?,
                }
                self.push("}}");
            }
            Stmt::ForLoop(for_loop) => self.for_loop(for_loop, for_loop.span().start_line)?,
            Stmt::IfCond(condition) => self.condition(condition, condition.span().start_line)?,
            Stmt::Set(set) => {
                self.open("{%", set.span().start_line);
                self.push("set ");
                self.target(&set.target)?;
                self.push("=");
                self.expression(&set.expr)?;
                if matches!(set.target, Expr::List(_)) {
                    self.filtered_by(ITEMS);
                }
                self.push("%}");
            }
            Stmt::SetBlock(block) => self.set_block(block, block.span().start_line)?,
            Stmt::FilterBlock(block) => self.filter_block(block, block.span().start_line)?,
            Stmt::WithBlock(block) => self.with_block(block, block.span().start_line)?,
            Stmt::Macro(declared) => {
                self.definition(declared.name, declared.name, declared, declared.span().start_line)?
            }
            Stmt::CallBlock(block) => {
                let line = block.span().start_line;
                let caller = self.variable_of_ours("caller");
                self.definition(&caller, "caller", &block.macro_decl, line)?;
                self.push("{{");
                self.call(&block.call, Some(&caller))?;
                self.push("}}");
            }
            Stmt::Do(statement) => {
                self.open("{%", statement.span().start_line);
                self.push("do ");
                self.call(&statement.call, None)?;
                self.push("%}");
            }
            Stmt::Continue(statement) => self.leave("continue", statement.span().start_line)?,
            Stmt::Break(statement) => self.leave("break", statement.span().start_line)?,
            Stmt::AutoEscape(tag) => return not_supported("autoescape", tag.span().start_line),
            Stmt::Block(tag) => return not_supported("block", tag.span().start_line),
            Stmt::Import(tag) => return not_supported("import", tag.span().start_line),
            Stmt::FromImport(tag) => return not_supported("from", tag.span().start_line),
            Stmt::Extends(tag) => return not_supported("extends", tag.span().start_line),
            Stmt::Include(tag) => return not_supported("include", tag.span().start_line),
        }
        Ok(())
    }

    /// With `break` and `continue`, Jinja runs `else` unless an iteration ran to its end.
    fn for_loop(&mut self, for_loop: &ForLoop<'_>, line: u16) -> Written {
        if for_loop.else_body.is_empty() || !for_loop.body.iter().any(leaves_iteration) {
            return self.plain_loop(for_loop, line, None);
        }
        let ended = self.variable_of_ours("ended");
        write!(self.out, "{{%set {ended}=namespace(yes=false)%}}").ok();
        self.plain_loop(for_loop, line, Some(&ended))?;
        write!(self.out, "{{%if not {ended}.yes%}}").ok();
        self.statements(&for_loop.else_body)?;
        self.push("{%endif%}");
        Ok(())
    }

    /// If `ended` is given, the loop sets `ended.yes` after a complete iteration, and `else` is not written.
    fn plain_loop(&mut self, for_loop: &ForLoop<'_>, line: u16, ended: Option<&str>) -> Written {
        self.open("{%", line);
        self.push("for ");
        self.target(&for_loop.target)?;
        self.push(" in ");
        self.expression(&for_loop.iter)?;
        let apart = matches!(for_loop.target, Expr::List(_));
        self.filtered_by(if apart { ITEMS_APART } else { ITEMS });
        if let Some(filter) = &for_loop.filter_expr {
            self.push(" if ");
            self.expression(filter)?;
        }
        if for_loop.recursive {
            self.push(" recursive");
        }
        self.push("%}");
        let blocks = std::mem::take(&mut self.blocks);
        let in_loop = std::mem::replace(&mut self.in_loop, true);
        self.statements(&for_loop.body)?;
        (self.blocks, self.in_loop) = (blocks, in_loop);
        if let Some(ended) = ended {
            write!(self.out, "{{%set {ended}.yes=true%}}").ok();
        } else if !for_loop.else_body.is_empty() {
            self.push("{%else%}");
            self.statements(&for_loop.else_body)?;
        }
        self.push("{%endfor%}");
        Ok(())
    }

    /// `elif` is written as such, as minijinja limits the depth of blocks.
    fn condition(&mut self, condition: &IfCond<'_>, line: u16) -> Written {
        self.open("{%", line);
        self.push("if ");
        self.expression(&condition.expr)?;
        self.push("%}");
        self.statements(&condition.true_body)?;
        let mut otherwise = condition.false_body.as_slice();
        while let [Stmt::IfCond(condition)] = otherwise {
            self.open("{%", condition.span().start_line);
            self.push("elif ");
            self.expression(&condition.expr)?;
            self.push("%}");
            self.statements(&condition.true_body)?;
            otherwise = &condition.false_body;
        }
        if !otherwise.is_empty() {
            self.push("{%else%}");
            self.statements(otherwise)?;
        }
        self.push("{%endif%}");
        Ok(())
    }

    /// What is assigned to.
    fn target(&mut self, target: &Expr<'_>) -> Written {
        match target {
            Expr::Var(variable) => self.push(variable.id),
            Expr::GetAttr(attribute) => {
                self.target(&attribute.expr)?;
                self.push(".");
                self.push(attribute.name);
            }
            Expr::List(list) => {
                self.push("(");
                for item in &list.items {
                    self.target(item)?;
                    self.push(",");
                }
                self.push(")");
            }
            other => {
                let message = format!("cannot assign to a {}", other.description());
                return Err(Error::new(ErrorKind::SyntaxError, message));
            }
        }
        Ok(())
    }

    /// Whether a list stands in parentheses, or is several values of a `set`.
    fn is_tuple(&self, list: &Spanned<List<'_>>) -> bool {
        let start = list.span().start_offset as usize;
        let bracket = self.source.as_bytes().get(start) == Some(&b'[');
        // The span of values without parentheses begins behind the first of them.
        !bracket
            || list.items.first().is_some_and(|item| (item.span().start_offset as usize) < start)
    }

    /// A variable, which may be one that macros give a meaning to.
    fn variable(&mut self, name: &str) {
        self.special.note(name);
        self.push(name);
    }

    /// A name that no variable of the template has.
    fn variable_of_ours(&mut self, what: &str) -> String {
        self.variables += 1;
        format!("{what}_{}__", self.variables)
    }

    fn filtered_by(&mut self, filter: &str) {
        self.push("|");
        self.push(filter);
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.push(",");
        }
    }

    /// A string literal, on one line.
    fn string(&mut self, text: &str) {
        self.push("\"");
        for c in text.chars() {
            match c {
                '"' => self.push("\\\""),
                '\\' => self.push("\\\\"),
                '\n' => self.push("\\n"),
                '\r' => self.push("\\r"),
                c => self.out.push(c),
            }
        }
        self.push("\"");
    }
}

/// An error about a tag that has no meaning here.
fn not_supported(tag: &str, line: u16) -> Written {
    let message = format!("`{tag}` is not supported in chat templates (line {line})");
    Err(Error::new(ErrorKind::SyntaxError, message))
}
