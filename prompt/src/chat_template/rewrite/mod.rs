//! A chat template rewritten so that everything it computes is checked while it renders.
//!
//! minijinja's fuel counts instructions. It does not see that one instruction doubles a string, and its operators
//! differ from Python's in a few places. So the template is parsed, and written out again as an equal template in
//! which every operator, filter and call goes through the checks of [`super::budget`], and `~`, `%` and slices are
//! those of [`super::operators`]. Text between tags becomes an expression, so that it is counted as well. Statements
//! keep their line numbers, which error messages show.

mod expressions;

use std::fmt::Write;

use minijinja::machinery::ast::{Expr, ForLoop, IfCond, Macro, Stmt};
use minijinja::machinery::{parse, WhitespaceConfig};
use minijinja::{Error, ErrorKind};

/// The filter that checks the size of a value.
pub const SIZED: &str = "checked_size__";
/// The filter that checks the size and the depth of a value.
pub const CHECKED: &str = "checked__";
/// The filter that refuses what cannot be walked through.
pub const ITEMS: &str = "items__";
/// The function that joins two values as text, as Python does.
pub const CONCAT: &str = "concat__";
/// The function that is Python's `%`.
pub const PERCENT: &str = "percent__";
/// The function that is Python's slice.
pub const SLICE: &str = "slice__";

/// `source` with every result checked, or what is wrong with its syntax.
pub fn rewrite(source: &str) -> Result<String, Error> {
    // As transformers sets up Jinja.
    let whitespace =
        WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
    let template = parse(source, "chat_template", Default::default(), whitespace)?;
    let mut writer =
        Writer { out: String::with_capacity(2 * source.len()), line: 1, loops: 0, blocks: 0 };
    writer.statement(&template)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    /// The line that `out` has reached.
    line: u16,
    /// How many loops have a namespace of ours.
    loops: usize,
    /// How many blocks inside the current loop minijinja does not leave with the loop.
    blocks: usize,
}

type Written = Result<(), Error>;

impl Writer {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Opens a tag on `line`.
    fn open(&mut self, tag: &str, line: u16) {
        self.push(tag);
        while self.line < line {
            self.out.push('\n');
            self.line += 1;
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) -> Written {
        statements.iter().try_for_each(|statement| self.statement(statement))
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
                    Expr::Call(call) => self.call(call)?,
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
                self.push("%}");
            }
            Stmt::SetBlock(block) => {
                self.open("{%", block.span().start_line);
                self.push("set ");
                self.target(&block.target)?;
                if let Some(filter) = &block.filter {
                    self.push("|");
                    self.filter_chain(filter)?;
                }
                self.push("%}");
                self.block(&block.body)?;
                self.push("{%endset%}");
            }
            Stmt::FilterBlock(block) => {
                self.open("{%", block.span().start_line);
                self.push("filter ");
                self.filter_chain(&block.filter)?;
                self.push("%}");
                self.block(&block.body)?;
                self.push("{%endfilter%}");
            }
            Stmt::WithBlock(block) => {
                self.open("{%", block.span().start_line);
                self.push("with ");
                for (index, (target, value)) in block.assignments.iter().enumerate() {
                    self.separate(index);
                    self.target(target)?;
                    self.push("=");
                    self.expression(value)?;
                }
                self.push("%}");
                self.block(&block.body)?;
                self.push("{%endwith%}");
            }
            Stmt::Macro(declared) => {
                self.open("{%", declared.span().start_line);
                write!(self.out, "macro {}", declared.name).ok();
                self.parameters(declared)?;
                self.push("%}");
                self.statements(&declared.body)?;
                self.push("{%endmacro%}");
            }
            Stmt::CallBlock(block) => {
                self.open("{%", block.span().start_line);
                self.push("call");
                self.parameters(&block.macro_decl)?;
                self.push(" ");
                self.call(&block.call)?;
                self.push("%}");
                self.statements(&block.macro_decl.body)?;
                self.push("{%endcall%}");
            }
            Stmt::Do(statement) => {
                self.open("{%", statement.span().start_line);
                self.push("do ");
                self.call(&statement.call)?;
                self.push("%}");
            }
            Stmt::Continue(statement) => {
                self.check_leaving()?;
                self.open("{%", statement.span().start_line);
                self.push("continue%}");
            }
            Stmt::Break(statement) => {
                self.check_leaving()?;
                self.open("{%", statement.span().start_line);
                self.push("break%}");
            }
            Stmt::AutoEscape(_)
            | Stmt::Block(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Include(_) => {
                let message = "autoescape, block, import, extends and include are not supported in chat templates";
                return Err(Error::new(ErrorKind::SyntaxError, message));
            }
        }
        Ok(())
    }

    /// The body of a block that has variables or an output of its own.
    fn block(&mut self, body: &[Stmt<'_>]) -> Written {
        self.blocks += 1;
        self.statements(body)?;
        self.blocks -= 1;
        Ok(())
    }

    /// minijinja does not close blocks that `break` and `continue` leave.
    fn check_leaving(&self) -> Written {
        if self.blocks == 0 {
            return Ok(());
        }
        let message =
            "break and continue inside of with, set, filter or generation blocks are not supported";
        Err(Error::new(ErrorKind::SyntaxError, message))
    }

    /// With `break` and `continue`, Jinja runs `else` unless an iteration ran to its end.
    fn for_loop(&mut self, for_loop: &ForLoop<'_>, line: u16) -> Written {
        if for_loop.else_body.is_empty() || !for_loop.body.iter().any(leaves_iteration) {
            return self.plain_loop(for_loop, line, None);
        }
        self.loops += 1;
        let ended = format!("ended_{}__", self.loops);
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
        self.push(" in (");
        self.expression(&for_loop.iter)?;
        self.checked_by(ITEMS);
        if let Some(filter) = &for_loop.filter_expr {
            self.push(" if ");
            self.expression(filter)?;
        }
        if for_loop.recursive {
            self.push(" recursive");
        }
        self.push("%}");
        let blocks = std::mem::take(&mut self.blocks);
        self.statements(&for_loop.body)?;
        self.blocks = blocks;
        if let Some(ended) = ended {
            write!(self.out, "{{%set {ended}.yes=true%}}").ok();
        } else if !for_loop.else_body.is_empty() {
            self.push("{%else%}");
            self.statements(&for_loop.else_body)?;
        }
        self.push("{%endfor%}");
        Ok(())
    }

    fn condition(&mut self, condition: &IfCond<'_>, line: u16) -> Written {
        self.open("{%", line);
        self.push("if ");
        self.expression(&condition.expr)?;
        self.push("%}");
        self.statements(&condition.true_body)?;
        if !condition.false_body.is_empty() {
            self.push("{%else%}");
            self.statements(&condition.false_body)?;
        }
        self.push("{%endif%}");
        Ok(())
    }

    fn parameters(&mut self, declared: &Macro<'_>) -> Written {
        self.push("(");
        let without_default = declared.args.len() - declared.defaults.len();
        for (index, parameter) in declared.args.iter().enumerate() {
            self.separate(index);
            self.target(parameter)?;
            if let Some(default) = index.checked_sub(without_default) {
                self.push("=");
                self.expression(&declared.defaults[default])?;
            }
        }
        self.push(")");
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

    /// Ends a parenthesized expression with the filter `check`.
    fn checked_by(&mut self, check: &str) {
        write!(self.out, "|{check})").ok();
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

/// Whether a statement of a loop ends an iteration of it early.
fn leaves_iteration(statement: &Stmt<'_>) -> bool {
    let any = |statements: &[Stmt<'_>]| statements.iter().any(leaves_iteration);
    match statement {
        Stmt::Break(_) | Stmt::Continue(_) => true,
        Stmt::IfCond(condition) => any(&condition.true_body) || any(&condition.false_body),
        Stmt::ForLoop(inner) => any(&inner.else_body),
        _ => false,
    }
}
