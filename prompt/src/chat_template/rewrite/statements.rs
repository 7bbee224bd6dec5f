//! Statements: loops, conditions and assignments.

use std::fmt::Write;

use minijinja::machinery::ast::{Expr, ForLoop, IfCond, Stmt};
use minijinja::{Error, ErrorKind};

use super::blocks::leaves_iteration;
use super::expressions::signs;
use super::names::*;
use super::writer::{Writer, Written};

impl Writer<'_> {
    pub(super) fn statement(&mut self, statement: &Stmt<'_>) -> Written {
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
                    // Output is counted when it is written. A call here may also be a recursive loop.
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
                let caller = self.generated_variable("caller");
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

    /// In a loop with `break` or `continue`, Jinja runs `else` unless an iteration was complete.
    pub(super) fn for_loop(&mut self, for_loop: &ForLoop<'_>, line: u16) -> Written {
        if for_loop.else_body.is_empty() || !for_loop.body.iter().any(leaves_iteration) {
            return self.plain_loop(for_loop, line, None);
        }
        let ended = self.generated_variable("ended");
        write!(self.out, "{{%set {ended}=namespace(yes=false)%}}").ok();
        self.plain_loop(for_loop, line, Some(&ended))?;
        write!(self.out, "{{%if not {ended}.yes%}}").ok();
        self.statements(&for_loop.else_body)?;
        self.push("{%endif%}");
        Ok(())
    }

    /// If `ended` is given, the loop sets `ended.yes` after a complete iteration, and `else` is not written.
    pub(super) fn plain_loop(
        &mut self,
        for_loop: &ForLoop<'_>,
        line: u16,
        ended: Option<&str>,
    ) -> Written {
        self.open("{%", line);
        self.push("for ");
        self.target(&for_loop.target)?;
        self.push(" in ");
        self.expression(&for_loop.iter)?;
        let apart = matches!(for_loop.target, Expr::List(_));
        self.filtered_by(if apart { UNPACKED_ITEMS } else { ITEMS });
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

    /// `elif` stays `elif`, because minijinja limits the depth of blocks.
    pub(super) fn condition(&mut self, condition: &IfCond<'_>, line: u16) -> Written {
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

    /// The target of an assignment.
    pub(super) fn target(&mut self, target: &Expr<'_>) -> Written {
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
}

/// The error for a tag that is not allowed here.
fn not_supported(tag: &str, line: u16) -> Written {
    let message = format!("`{tag}` is not supported in chat templates (line {line})");
    Err(Error::new(ErrorKind::SyntaxError, message))
}
