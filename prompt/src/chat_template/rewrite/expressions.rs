//! Expressions, with every result checked.

use std::fmt::Write;

use minijinja::machinery::ast::{
    BinOp, BinOpKind, Call, CallArg, CompareOpKind, Expr, Filter, UnaryOpKind,
};
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::{
    Writer, Written, ADD, CHECKED, COMPARE, CONCAT, DIVIDE, FLOOR_DIVIDE, MULTIPLY, NEGATE,
    PERCENT, POWER, SIZED, SLICE, SUBTRACT, TUPLE,
};

/// The most operands of a chain of `and` or `or`. minijinja takes time with the square of their number.
const MAX_CHAIN: usize = 1000;

impl Writer<'_> {
    /// Writes an expression that a filter can follow without parentheses.
    pub(super) fn expression(&mut self, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::Var(variable) => self.variable(variable.id),
            Expr::Const(constant) => self.constant(&constant.value)?,
            Expr::UnaryOp(operation) => match operation.op {
                UnaryOpKind::Not => {
                    self.push("(not ");
                    self.expression(&operation.expr)?;
                    self.push(")");
                }
                UnaryOpKind::Neg => {
                    self.expression(&operation.expr)?;
                    self.filtered_by(NEGATE);
                }
            },
            Expr::BinOp(operation) => self.binary(operation)?,
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr)?;
                self.filtered_by(COMPARE);
                for (index, operand) in comparison.ops.iter().enumerate() {
                    self.push(if index == 0 { "(" } else { "," });
                    self.comparison(comparison_sign(operand.op), &operand.expr)?;
                }
                self.push(")");
            }
            Expr::IfExpr(choice) => {
                self.push("(");
                self.expression(&choice.true_expr)?;
                self.push(" if ");
                self.expression(&choice.test_expr)?;
                if let Some(otherwise) = &choice.false_expr {
                    self.push(" else ");
                    self.expression(otherwise)?;
                }
                self.push(")");
            }
            Expr::Filter(filter) => self.filter(filter)?,
            Expr::Test(test) => {
                self.push("(");
                self.expression(&test.expr)?;
                write!(self.out, " is {}", test.name).ok();
                if !test.args.is_empty() {
                    self.arguments(&test.args, None)?;
                }
                self.push(")");
            }
            Expr::List(list) => {
                self.push("[");
                for (index, item) in list.items.iter().enumerate() {
                    self.separate(index);
                    self.expression(item)?;
                }
                self.push("]");
                self.filtered_by(if self.is_tuple(list) { TUPLE } else { CHECKED });
            }
            Expr::Map(map) => {
                self.push("{");
                for (index, (key, value)) in map.keys.iter().zip(&map.values).enumerate() {
                    self.separate(index);
                    self.expression(key)?;
                    self.push(":");
                    self.expression(value)?;
                }
                // Two closing braces in a row would end the expression.
                self.push(" }");
                self.filtered_by(CHECKED);
            }
            Expr::GetAttr(_) | Expr::GetItem(_) | Expr::Slice(_) | Expr::Call(_) => {
                self.postfix(expression)?;
                // minijinja reads `-a.b` as `(-a).b`.
                (0..signs(expression)).for_each(|_| self.filtered_by(NEGATE));
            }
        }
        Ok(())
    }

    /// What is behind a value: `.name`, `[index]`, a slice, or a call. The signs before the value are left out.
    fn postfix(&mut self, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::GetAttr(attribute) => {
                self.base(&attribute.expr)?;
                self.push(".");
                self.push(attribute.name);
            }
            Expr::GetItem(item) => {
                self.base(&item.expr)?;
                self.push("[");
                self.expression(&item.subscript_expr)?;
                self.push("]");
            }
            Expr::Slice(slice) => {
                self.base(&slice.expr)?;
                self.filtered_by(SLICE);
                for (bound, before) in [(&slice.start, "("), (&slice.stop, ","), (&slice.step, ",")]
                {
                    self.push(before);
                    match bound {
                        Some(bound) => self.expression(bound)?,
                        None => self.push("none"),
                    }
                }
                self.push(")");
            }
            Expr::Call(call) => {
                self.call(call, None)?;
                self.filtered_by(CHECKED);
            }
            other => self.expression(other)?,
        }
        Ok(())
    }

    /// The value that is before `.name`, `[index]`, a slice or a call.
    fn base(&mut self, base: &Expr<'_>) -> Written {
        match base {
            Expr::UnaryOp(sign) if matches!(sign.op, UnaryOpKind::Neg) => self.base(&sign.expr),
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => self.postfix(base),
            _ => {
                self.push("(");
                self.postfix(base)?;
                self.push(")");
                Ok(())
            }
        }
    }

    fn binary(&mut self, operation: &BinOp<'_>) -> Written {
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

    /// `a and b and c`: chains of one operator have no parentheses, as minijinja limits their depth.
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
            // minijinja would compute constants beforehand, and `0 and x` as a boolean.
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

    fn filter(&mut self, filter: &Filter<'_>) -> Written {
        if let Some(filtered) = &filter.expr {
            self.expression(filtered)?;
            self.push("|");
        }
        self.filter_call(filter)
    }

    /// A filter with its arguments, and the check of its result.
    fn filter_call(&mut self, filter: &Filter<'_>) -> Written {
        self.push(filter.name);
        if !filter.args.is_empty() {
            self.arguments(&filter.args, None)?;
        }
        self.filtered_by(CHECKED);
        Ok(())
    }

    /// The filters of a block, which are applied to what the block writes.
    pub(super) fn filter_chain(&mut self, filters: &Expr<'_>) -> Written {
        let Expr::Filter(filter) = filters else {
            let message = format!("a block cannot be filtered by a {}", filters.description());
            return Err(Error::new(ErrorKind::SyntaxError, message));
        };
        if let Some(before) = &filter.expr {
            self.filter_chain(before)?;
            self.push("|");
        }
        self.filter_call(filter)
    }

    /// A call; `caller` is the variable with the macro that a `call` block passes.
    pub(super) fn call(&mut self, call: &Call<'_>, caller: Option<&str>) -> Written {
        self.base(&call.expr)?;
        self.arguments(&call.args, caller)
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>], caller: Option<&str>) -> Written {
        self.push("(");
        for (index, argument) in arguments.iter().enumerate() {
            self.separate(index);
            let (before, value) = match argument {
                CallArg::Pos(value) => ("", value),
                CallArg::Kwarg(name, value) => {
                    self.push(name);
                    ("=", value)
                }
                CallArg::PosSplat(value) => ("*", value),
                CallArg::KwargSplat(value) => ("**", value),
            };
            self.push(before);
            self.expression(value)?;
        }
        if let Some(caller) = caller {
            self.separate(arguments.len());
            write!(self.out, "caller={caller}").ok();
        }
        self.push(")");
        Ok(())
    }

    fn constant(&mut self, value: &Value) -> Written {
        match value.kind() {
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Bool | ValueKind::None | ValueKind::Number => {
                write!(self.out, "{value}").ok();
            }
            kind => {
                let message = format!("a constant of type {kind}");
                return Err(Error::new(ErrorKind::SyntaxError, message));
            }
        }
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

/// How many minus signs are before the value that a chain of `.name`, `[index]` and calls begins with.
pub(super) fn signs(expression: &Expr<'_>) -> usize {
    let (mut expression, mut signs) = (expression, 0);
    loop {
        expression = match expression {
            Expr::GetAttr(attribute) => &attribute.expr,
            Expr::GetItem(item) => &item.expr,
            Expr::Slice(slice) => &slice.expr,
            Expr::Call(call) => &call.expr,
            Expr::UnaryOp(sign) if matches!(sign.op, UnaryOpKind::Neg) => {
                signs += 1;
                &sign.expr
            }
            _ => return signs,
        }
    }
}
