//! Operators, written as the filters of [`crate::chat_template::operators`].

use std::fmt::Write;

use minijinja::machinery::ast::{BinOp, BinOpKind, Compare, CompareOpKind, Expr};
use minijinja::{Error, ErrorKind};

use super::names::{
    ADD, COMPARE, CONCAT, DIVIDE, FLOOR_DIVIDE, MULTIPLY, PERCENT, POWER, SIZED, SUBTRACT,
};
use super::writer::{Writer, Written};

/// The most operands of a chain of `and` or `or`. The time of minijinja is quadratic in their number.
const MAX_CHAIN: usize = 1000;

impl Writer<'_> {
    pub(super) fn binary(&mut self, operation: &BinOp<'_>) -> Written {
        let name = match operation.op {
            BinOpKind::ScAnd | BinOpKind::ScOr => {
                self.push("(");
                self.logical(operation)?;
                self.push(")");
                return Ok(());
            }
            BinOpKind::Add => ADD,
            BinOpKind::Sub => SUBTRACT,
            BinOpKind::Mul => MULTIPLY,
            BinOpKind::Div => DIVIDE,
            BinOpKind::FloorDiv => FLOOR_DIVIDE,
            BinOpKind::Rem => PERCENT,
            BinOpKind::Pow => POWER,
            BinOpKind::Concat => CONCAT,
            BinOpKind::Eq => return self.compared(operation, "=="),
            BinOpKind::Ne => return self.compared(operation, "!="),
            BinOpKind::Lt => return self.compared(operation, "<"),
            BinOpKind::Lte => return self.compared(operation, "<="),
            BinOpKind::Gt => return self.compared(operation, ">"),
            BinOpKind::Gte => return self.compared(operation, ">="),
            BinOpKind::In => return self.compared(operation, "in"),
        };
        self.expression(&operation.left)?;
        self.filtered_by(name);
        self.push("(");
        self.expression(&operation.right)?;
        self.push(")");
        Ok(())
    }

    /// `a and b and c`. A chain of one operator has no parentheses, because minijinja limits their depth.
    fn logical(&mut self, operation: &BinOp<'_>) -> Written {
        let is_and = matches!(operation.op, BinOpKind::ScAnd);
        let mut operands = vec![&operation.right];
        let mut left = &operation.left;
        while let Expr::BinOp(before) = left {
            match (&before.op, is_and) {
                (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {}
                _ => break,
            }
            operands.push(&before.right);
            left = &before.left;
        }
        operands.push(left);
        if operands.len() > MAX_CHAIN {
            let message = format!("a chain of `and` or `or` has more than {MAX_CHAIN} operands");
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
        for (index, operand) in operands.into_iter().rev().enumerate() {
            if index > 0 {
                self.push(if is_and { " and " } else { " or " });
            }
            self.logical_operand(operand)?;
        }
        Ok(())
    }

    fn logical_operand(&mut self, operand: &Expr<'_>) -> Written {
        self.expression(operand)?;
        if matches!(operand, Expr::Const(_)) {
            // minijinja would evaluate constants at compile time, and `0 and x` to a boolean.
            self.filtered_by(SIZED);
        }
        Ok(())
    }

    fn compared(&mut self, operation: &BinOp<'_>, sign: &str) -> Written {
        self.expression(&operation.left)?;
        self.filtered_by(COMPARE);
        self.push("(");
        self.comparison(sign, &operation.right)?;
        self.push(")");
        Ok(())
    }

    fn comparison(&mut self, sign: &str, operand: &Expr<'_>) -> Written {
        write!(self.out, "\"{sign}\",").ok();
        self.expression(operand)
    }

    /// `a < b < c`.
    pub(super) fn comparisons(&mut self, comparison: &Compare<'_>) -> Written {
        self.expression(&comparison.expr)?;
        self.filtered_by(COMPARE);
        for (index, operand) in comparison.ops.iter().enumerate() {
            self.push(if index == 0 { "(" } else { "," });
            self.comparison(comparison_sign(operand.op), &operand.expr)?;
        }
        self.push(")");
        Ok(())
    }
}

fn comparison_sign(kind: CompareOpKind) -> &'static str {
    match kind {
        CompareOpKind::Eq => "==",
        CompareOpKind::Ne => "!=",
        CompareOpKind::Lt => "<",
        CompareOpKind::Lte => "<=",
        CompareOpKind::Gt => ">",
        CompareOpKind::Gte => ">=",
        CompareOpKind::In => "in",
        CompareOpKind::NotIn => "not in",
    }
}
