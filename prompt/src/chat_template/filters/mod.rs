//! Filters for which Jinja differs from minijinja. Their results are never larger than a prompt.

mod arguments;
mod lists;
mod markup;
mod numbers;
mod sorting;
mod texts;

use minijinja::value::Rest;
use minijinja::{Environment, State, Value};

use super::budget::TextLimit;
use super::json::tojson;
use super::rewrite::{CHECKED, SIZED};

pub use lists::joined;
pub use texts::replace;

/// Adds the filters to `env`. `limit` is the limit of every string.
pub fn add_to(env: &mut Environment<'static>, limit: TextLimit) {
    env.add_filter(SIZED, move |state: &State, value: Value| limit.sized(state, value));
    env.add_filter(CHECKED, move |state: &State, value: Value| limit.checked(state, value));
    env.add_filter("tojson", move |value: Value, arguments: Rest<Value>| {
        tojson(limit, &value, &arguments)
    });
    texts::add_to(env, limit);
    lists::add_to(env, limit);
    sorting::add_to(env, limit);
    markup::add_to(env, limit);
    numbers::add_to(env);
}
