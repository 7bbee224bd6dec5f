//! Macros with Jinja's rules for arguments.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::rewrite::MACRO;
use super::tuple::tuple;

/// Adds the function that creates macros to `env`.
pub fn add_to(env: &mut Environment<'static>) {
    env.add_function(
        MACRO,
        |body: Value, name: String, parameters: Vec<String>, takes: Vec<bool>| {
            let takes = |index: usize| takes.get(index).copied().unwrap_or(false);
            let (varargs, kwargs, caller) = (takes(0), takes(1), takes(2));
            Value::from_object(Macro { body, name, parameters, varargs, kwargs, caller })
        },
    );
}

/// A macro and its parameters.
#[derive(Debug)]
struct Macro {
    /// A macro of minijinja with one argument: the map of [`Macro::given`].
    body: Value,
    name: String,
    parameters: Vec<String>,
    varargs: bool,
    kwargs: bool,
    caller: bool,
}

impl Object for Macro {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "name" => Some(Value::from(&self.name)),
            "arguments" => Some(tuple(self.parameters.iter().map(Value::from).collect())),
            _ => None,
        }
    }

    fn call(self: &Arc<Self>, state: &State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
        let given = self.given(arguments)?;
        self.body.call(state, &[Value::from(given)])
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<Macro '{}'>", self.name)
    }
}

impl Macro {
    /// The arguments by parameter name. Parameters without an argument are absent.
    fn given(&self, arguments: &[Value]) -> Result<BTreeMap<String, Value>, Error> {
        let (positional, mut named) = by_place_and_name(arguments)?;
        let mut given = BTreeMap::new();
        if self.caller {
            given.extend(take(&mut named, "caller").map(|caller| ("caller".to_string(), caller)));
        }
        let mut positional = positional.iter().cloned();
        for parameter in &self.parameters {
            let argument = positional.next().or_else(|| take(&mut named, parameter));
            given.extend(argument.map(|argument| (parameter.clone(), argument)));
        }
        let further: Vec<Value> = positional.collect();
        if self.varargs {
            given.insert("varargs".into(), tuple(further));
        } else if !further.is_empty() {
            let most = self.parameters.len();
            return Err(self.error(format!("takes at most {most} arguments")));
        }
        if self.kwargs {
            given.insert("kwargs".into(), Value::from_iter(named));
        } else if let Some(name) = named.first().map(|(name, _)| name) {
            return Err(self.error(format!("takes no argument `{name}`")));
        }
        Ok(given)
    }

    fn error(&self, why: String) -> Error {
        Error::new(ErrorKind::TooManyArguments, format!("macro `{}` {why}", self.name))
    }
}

type Named = Vec<(String, Value)>;

fn take(named: &mut Named, name: &str) -> Option<Value> {
    let place = named.iter().position(|(other, _)| other == name)?;
    Some(named.remove(place).1)
}

fn by_place_and_name(arguments: &[Value]) -> Result<(&[Value], Named), Error> {
    match arguments.split_last() {
        Some((last, positional)) if last.is_kwargs() => {
            let options = Kwargs::try_from(last.clone())?;
            let named = options.args().map(|name| Ok((name.to_string(), options.get(name)?)));
            Ok((positional, named.collect::<Result<_, Error>>()?))
        }
        _ => Ok((arguments, Named::new())),
    }
}
