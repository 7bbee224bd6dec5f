//! Expressions, with every result checked.

use std::fmt::Write;

use minijinja::machinery::ast::{
    BinOp, BinOpKind, Call, CallArg, CompareOpKind, Expr, Filter, UnaryOpKind,
};
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::{Writer, Written, CHECKED, CONCAT, PERCENT, SIZED, SLICE};

impl Writer {
    pub(super) fn expression(&mut self, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::Var(variable) => self.push(variable.id),
            Expr::Const(constant) => self.constant(&constant.value)?,
            Expr::Slice(slice) => {
                self.push("(");
                self.push(SLICE);
                self.push("(");
                self.expression(&slice.expr)?;
                for bound in [&slice.start, &slice.stop, &slice.step] {
                    self.push(",");
                    match bound {
                        Some(bound) => self.expression(bound)?,
                        None => self.push("none"),
                    }
                }
                self.push(")");
                self.checked_by(SIZED);
            }
            Expr::UnaryOp(operation) => {
                self.push(match operation.op {
                    UnaryOpKind::Not => "(not ",
                    UnaryOpKind::Neg => "(-",
                });
                self.expression(&operation.expr)?;
                self.push(")");
            }
            Expr::BinOp(operation) => self.binary(operation)?,
            Expr::Compare(comparison) => {
                self.push("((");
                self.expression(&comparison.expr)?;
                self.compared();
                for operand in &comparison.ops {
                    self.push(comparison_sign(operand.op));
                    self.expression(&operand.expr)?;
                    self.compared();
                }
                self.push(")");
                self.checked_by(SIZED);
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
                    self.arguments(&test.args)?;
                }
                self.push(")");
            }
            Expr::GetAttr(attribute) => {
                self.expression(&attribute.expr)?;
                self.push(".");
                self.push(attribute.name);
            }
            Expr::GetItem(item) => {
                self.expression(&item.expr)?;
                self.push("[");
                self.expression(&item.subscript_expr)?;
                self.push("]");
            }
            Expr::Call(call) => {
                self.push("(");
                self.call(call)?;
                self.checked_by(CHECKED);
            }
            Expr::List(list) => {
                self.push("([");
                for (index, item) in list.items.iter().enumerate() {
                    self.separate(index);
                    self.expression(item)?;
                }
                self.push("]");
                self.checked_by(CHECKED);
            }
            Expr::Map(map) => {
                self.push("({");
                for (index, (key, value)) in map.keys.iter().zip(&map.values).enumerate() {
                    self.separate(index);
                    self.expression(key)?;
                    self.push(":");
                    self.expression(value)?;
                }
                // Two closing braces in a row would end the expression.
                self.push(" }");
                self.checked_by(CHECKED);
            }
        }
        Ok(())
    }

    fn binary(&mut self, operation: &BinOp<'_>) -> Written {
        let sign = match operation.op {
            BinOpKind::Concat => return self.function(CONCAT, operation, None),
            // Python formats a tuple item by item and a list as one value. Both are lists in minijinja; only the
            // tuples are written in place.
            BinOpKind::Rem => {
                let in_place = matches!(operation.right, Expr::List(_));
                return self.function(PERCENT, operation, Some(in_place));
            }
            BinOpKind::Eq => "==",
            BinOpKind::Ne => "!=",
            BinOpKind::Lt => "<",
            BinOpKind::Lte => "<=",
            BinOpKind::Gt => ">",
            BinOpKind::Gte => ">=",
            BinOpKind::ScAnd => " and ",
            BinOpKind::ScOr => " or ",
            BinOpKind::Add => "+",
            BinOpKind::Sub => "-",
            BinOpKind::Mul => "*",
            BinOpKind::Div => "/",
            BinOpKind::FloorDiv => "//",
            BinOpKind::Pow => "**",
            BinOpKind::In => " in ",
        };
        self.push("((");
        self.operand(&operation.left, operation.op)?;
        self.push(sign);
        self.operand(&operation.right, operation.op)?;
        self.push(")");
        match operation.op {
            BinOpKind::ScAnd | BinOpKind::ScOr => self.push(")"),
            BinOpKind::Mul => self.checked_by(CHECKED),
            _ => self.checked_by(SIZED),
        }
        Ok(())
    }

    /// An operand with a check. A filter binds more tightly than an operator.
    fn operand(&mut self, operand: &Expr<'_>, operator: BinOpKind) -> Written {
        self.expression(operand)?;
        match operator {
            BinOpKind::Eq | BinOpKind::Ne | BinOpKind::In => self.compared(),
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => self.compared(),
            // minijinja would compute with constants beforehand: without a limit, and `0 and x` as a boolean.
            _ if matches!(operand, Expr::Const(_)) => write!(self.out, "|{SIZED}").unwrap_or(()),
            _ => {}
        }
        Ok(())
    }

    /// What is compared is read, all that is inside of it.
    fn compared(&mut self) {
        write!(self.out, "|{CHECKED}").unwrap_or(());
    }

    fn function(&mut self, name: &str, operation: &BinOp<'_>, option: Option<bool>) -> Written {
        self.push(name);
        self.push("(");
        self.expression(&operation.left)?;
        self.push(",");
        self.expression(&operation.right)?;
        if let Some(option) = option {
            write!(self.out, ",{option}").unwrap_or(());
        }
        self.push(")");
        Ok(())
    }

    fn filter(&mut self, filter: &Filter<'_>) -> Written {
        if let Some(filtered) = &filter.expr {
            self.push("(");
            self.expression(filtered)?;
            self.push("|");
        }
        self.push(filter.name);
        if !filter.args.is_empty() {
            self.arguments(&filter.args)?;
        }
        self.checked_by(CHECKED);
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
        self.push(filter.name);
        if !filter.args.is_empty() {
            self.arguments(&filter.args)?;
        }
        write!(self.out, "|{CHECKED}").ok();
        Ok(())
    }

    pub(super) fn call(&mut self, call: &Call<'_>) -> Written {
        self.expression(&call.expr)?;
        self.arguments(&call.args)
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Written {
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
        CompareOpKind::In => " in ",
        CompareOpKind::NotIn => " not in ",
    }
}
