//! Blocks with their own variables or output, and `break` and `continue` in them.
//!
//! minijinja does not close the blocks that `break` and `continue` leave. So inside such a block these
//! statements only record in a namespace how the iteration ends. The rest of the block is skipped, and
//! the iteration ends after the block.

use std::fmt::Write;

use minijinja::machinery::ast::{Expr, FilterBlock, SetBlock, Stmt, WithBlock};
use minijinja::{Error, ErrorKind};

use super::names::{GENERATION, ITEMS};
use super::writer::{Writer, Written};

impl Writer<'_> {
    pub(super) fn statements(&mut self, statements: &[Stmt<'_>]) -> Written {
        for (index, statement) in statements.iter().enumerate() {
            self.statement(statement)?;
            let rest = &statements[index + 1..];
            if let Some(how) = self.blocks.last().filter(|_| leaves_iteration(statement)) {
                if rest.is_empty() {
                    return Ok(());
                }
                write!(self.out, "{{%if not {how}.ends%}}").ok();
                self.statements(rest)?;
                self.push("{%endif%}");
                return Ok(());
            }
        }
        Ok(())
    }

    /// `break` or `continue`.
    pub(super) fn leave(&mut self, tag: &str, line: u16) -> Written {
        if !self.in_loop {
            let message = format!("`{tag}` is outside a loop (line {line})");
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
        self.open("{%", line);
        match self.blocks.last() {
            Some(how) => write!(self.out, "set {how}.ends=\"{tag}\"%}}").ok(),
            None => write!(self.out, "{tag}%}}").ok(),
        };
        Ok(())
    }

    pub(super) fn with_block(&mut self, block: &WithBlock<'_>, line: u16) -> Written {
        let is_generation =
            block.assignments.iter().any(|(target, _)| is_variable(target, GENERATION));
        if is_generation && block.body.iter().any(leaves_iteration) {
            let message =
                format!("`break` and `continue` cannot leave a `generation` block (line {line})");
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
        let how = self.begin_block(&block.body);
        self.open("{%", line);
        self.push("with ");
        for (index, (target, value)) in block.assignments.iter().enumerate() {
            self.separate(index);
            self.target(target)?;
            self.push("=");
            self.expression(value)?;
            if matches!(target, Expr::List(_)) {
                self.filtered_by(ITEMS);
            }
        }
        self.push("%}");
        self.statements(&block.body)?;
        self.push("{%endwith%}");
        self.end_block(how, line)
    }

    pub(super) fn set_block(&mut self, block: &SetBlock<'_>, line: u16) -> Written {
        let how = self.begin_block(&block.body);
        // A block that is left early assigns nothing.
        let captured = how.is_some().then(|| self.generated_variable("captured"));
        self.open("{%", line);
        self.push("set ");
        match &captured {
            Some(captured) => self.push(captured),
            None => self.set_block_target(block)?,
        }
        self.push("%}");
        self.statements(&block.body)?;
        self.push("{%endset%}");
        self.end_block(how, line)?;
        if let Some(captured) = captured {
            self.push("{%set ");
            self.target(&block.target)?;
            write!(self.out, "={captured}").ok();
            self.filters(block.filter.as_ref())?;
            self.push("%}");
        }
        Ok(())
    }

    fn set_block_target(&mut self, block: &SetBlock<'_>) -> Written {
        self.target(&block.target)?;
        self.filters(block.filter.as_ref())
    }

    fn filters(&mut self, filters: Option<&Expr<'_>>) -> Written {
        if let Some(filters) = filters {
            self.push("|");
            self.filter_chain(filters)?;
        }
        Ok(())
    }

    pub(super) fn filter_block(&mut self, block: &FilterBlock<'_>, line: u16) -> Written {
        let how = self.begin_block(&block.body);
        let captured = self.generated_variable("captured");
        self.open("{%", line);
        write!(self.out, "set {captured}%}}").ok();
        self.statements(&block.body)?;
        self.push("{%endset%}");
        self.end_block(how, line)?;
        write!(self.out, "{{{{{captured}|").ok();
        self.filter_chain(&block.filter)?;
        self.push("}}");
        Ok(())
    }

    /// The variable that records how the iteration ends, if `body` can leave it.
    fn begin_block(&mut self, body: &[Stmt<'_>]) -> Option<String> {
        if !body.iter().any(leaves_iteration) {
            return None;
        }
        let how = self.generated_variable("how");
        write!(self.out, "{{%set {how}=namespace(ends=\"\")%}}").ok();
        self.blocks.push(how.clone());
        Some(how)
    }

    fn end_block(&mut self, how: Option<String>, line: u16) -> Written {
        let Some(how) = how else { return Ok(()) };
        self.blocks.pop();
        for tag in ["break", "continue"] {
            write!(self.out, "{{%if {how}.ends==\"{tag}\"%}}").ok();
            self.leave(tag, line)?;
            self.push("{%endif%}");
        }
        Ok(())
    }
}

fn is_variable(target: &Expr<'_>, name: &str) -> bool {
    matches!(target, Expr::Var(variable) if variable.id == name)
}

/// Whether a statement can end an iteration of its loop early.
pub(super) fn leaves_iteration(statement: &Stmt<'_>) -> bool {
    let any = |statements: &[Stmt<'_>]| statements.iter().any(leaves_iteration);
    match statement {
        Stmt::Break(_) | Stmt::Continue(_) => true,
        Stmt::IfCond(condition) => any(&condition.true_body) || any(&condition.false_body),
        Stmt::ForLoop(inner) => any(&inner.else_body),
        Stmt::WithBlock(block) => any(&block.body),
        Stmt::SetBlock(block) => any(&block.body),
        Stmt::FilterBlock(block) => any(&block.body),
        _ => false,
    }
}
