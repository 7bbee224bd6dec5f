//! Expressions, with every result checked.

use std::fmt::Write;

use minijinja::machinery::ast::{Call, CallArg, Expr, Filter, UnaryOpKind};
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::names::{CHECKED, NEGATE, SLICE, TUPLE};
use super::writer::{Writer, Written};

impl Writer<'_> {
    /// Writes an expression to which a filter can be applied without parentheses.
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
            Expr::Compare(comparison) => self.comparisons(comparison)?,
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

    /// The postfix operations of a value: `.name`, `[index]`, slices and calls. Signs before the value are left out.
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

    /// The value to which `.name`, `[index]`, a slice or a call is applied.
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

    /// The filters of a block, which are applied to its output.
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
            // Otherwise it would be written as the name `inf`.
            ValueKind::Number if value.to_string() == "inf" => self.push("1e999"),
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

/// The number of minus signs before the value at the beginning of a chain of postfix operations.
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
