//! Macros and the bodies of `call` blocks.
//!
//! Each is written as a macro with one argument: the map of arguments that [`MACRO`] builds. So defaults
//! can use earlier parameters, and `varargs` and `kwargs` exist.

use std::fmt::Write;

use minijinja::machinery::ast::{Expr, Macro};

use super::names::MACRO;
use super::writer::{Special, Writer, Written};

impl Writer<'_> {
    /// Assigns the macro `declared`, whose name is `name`, to `variable`.
    pub(super) fn definition(
        &mut self,
        variable: &str,
        name: &str,
        declared: &Macro<'_>,
        line: u16,
    ) -> Written {
        // The body of a macro is outside the loops around it.
        let blocks = std::mem::take(&mut self.blocks);
        let in_loop = std::mem::take(&mut self.in_loop);
        let special = std::mem::take(&mut self.special);
        let body = self.generated_variable("body");
        self.open("{%", line);
        write!(self.out, "macro {body}(given__)%}}").ok();
        let parameters = self.parameters(declared)?;
        self.statements(&declared.body)?;
        self.push("{%endmacro%}");
        let Special { varargs, kwargs, caller } = self.special;
        write!(self.out, "{{%set {variable}={MACRO}({body},\"{name}\",[").ok();
        for (index, parameter) in parameters.iter().enumerate() {
            self.separate(index);
            write!(self.out, "\"{parameter}\"").ok();
        }
        write!(self.out, "],[{varargs},{kwargs},{caller}])%}}").ok();
        (self.blocks, self.in_loop, self.special) = (blocks, in_loop, special);
        Ok(())
    }

    /// Sets the parameters of `declared`, and returns their names.
    fn parameters<'b>(&mut self, declared: &Macro<'b>) -> Result<Vec<&'b str>, minijinja::Error> {
        let name = |parameter: &Expr<'b>| match parameter {
            Expr::Var(variable) => Some(variable.id),
            _ => None,
        };
        let names: Vec<&str> = declared.args.iter().filter_map(name).collect();
        for name in ["varargs", "kwargs", "caller"].iter().chain(&names) {
            write!(self.out, "{{%set {name}=given__.{name}%}}").ok();
        }
        let without_default = names.len() - declared.defaults.len();
        for (name, default) in names[without_default..].iter().zip(&declared.defaults) {
            write!(self.out, "{{%if \"{name}\" not in given__%}}{{%set {name}=").ok();
            self.expression(default)?;
            self.push("%}{%endif%}");
        }
        Ok(names)
    }
}
