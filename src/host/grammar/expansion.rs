//! Limits the size of a schema after expansion.
//!
//! If several schemas apply to one value, as with `allOf`, or with `anyOf` next to other keywords, the compiler
//! multiplies their alternatives: a few kilobytes can expand to gigabytes. The compiler limits how many schemas it
//! merges, but not their size. The expanded size is therefore estimated before compiling, with estimates that are too
//! high rather than too low.

mod estimate;

use std::collections::HashMap;

use serde_json::Value;

use super::intersections::{self, branches};
use super::size::at_most;
use super::GrammarError;
use estimate::{text_size, Expansion, UPPER_BOUND};

/// The most schemas after expansion. Each takes about 15 microseconds and 1 to 2 kilobytes.
const MAX_EXPANDED: usize = 100_000;
/// The size of a name in `required` without its text: about 100 bytes of allocations.
const SIZE_PER_NAME: f64 = 0.1;
/// Keywords that do not constrain the value.
const ANNOTATIONS: &str = "title description default examples $comment $anchor readOnly writeOnly \
    $defs definitions $schema $id id";

/// Fails if the expanded schema would be too large. Recurses into references, and therefore needs a thread with a large
/// stack.
pub(super) fn check(schema: &Value) -> Result<(), GrammarError> {
    let (text, references) = (schema.to_string(), HashMap::new());
    let counted = text.contains("minProperties") || text.contains("maxProperties");
    let mut estimator = Estimator {
        root: schema,
        references,
        counted,
        total: 0.0,
        endless: false,
        combinations: 1.0,
    };
    estimator.schema(schema);
    intersections::check(estimator.combinations)?;
    if estimator.endless {
        let problem = "a recursive schema is merged with one that has the same properties";
        return Err(GrammarError::Invalid(format!("{problem}: expected no such allOf or $ref")));
    }
    at_most("schemas after expansion", estimator.total as usize, MAX_EXPANDED)
}

/// Estimates the expansion of the schemas in `root`.
struct Estimator<'a> {
    root: &'a Value,
    /// The expansions of references. A reference that is being estimated counts as a cycle of size 1.
    references: HashMap<&'a str, Expansion<'a>>,
    /// Whether the schema has `minProperties` or `maxProperties`: then the compiler visits all pairs of properties.
    counted: bool,
    /// The total size of merged or compared schemas. The others do not expand.
    total: f64,
    /// Whether a recursive schema is merged with one that may contain the same cycle.
    endless: bool,
    /// The most combinations of an intersection of regular expressions.
    combinations: f64,
}

impl<'a> Estimator<'a> {
    fn schema(&mut self, schema: &'a Value) -> Expansion<'a> {
        let Value::Object(keywords) = schema else { return Expansion::one() };
        let mut parts: Vec<Expansion> = self.own(schema).into_iter().collect();
        for (keyword, value) in keywords {
            match keyword.as_str() {
                "allOf" => parts.extend(children(value).map(|part| self.schema(part))),
                "anyOf" | "oneOf" => parts.push(self.alternatives(keyword, value)),
                "enum" => parts.push(Expansion::literals(children(value))),
                "const" => parts.push(Expansion::literals([value].into_iter())),
                "$ref" => parts.extend(value.as_str().map(|to| self.reference(to))),
                _ => {}
            }
        }
        parts.into_iter().reduce(|a, b| self.merge(a, b)).unwrap_or_else(Expansion::one)
    }

    fn merge(&mut self, a: Expansion<'a>, b: Expansion<'a>) -> Expansion<'a> {
        let (alternatives, overlap) =
            ((a.alternatives * b.alternatives).min(UPPER_BOUND), a.overlaps(&b));
        let (size, inner) = if overlap {
            (a.size * b.copies() + b.size * a.copies(), a.copies() * b.copies() / alternatives)
        } else {
            (a.size * b.alternatives + b.size * a.alternatives, a.inner + b.inner)
        };
        let size = size.min(UPPER_BOUND);
        self.total += size;
        let combinations = (a.combinations * b.combinations).min(UPPER_BOUND);
        self.combinations = self.combinations.max(combinations);
        self.endless |= overlap && (a.cyclic || b.cyclic);
        Expansion { size, alternatives, inner, combinations, ..a.with(b) }
    }

    fn alternatives(&mut self, keyword: &str, value: &'a Value) -> Expansion<'a> {
        let mut sum = Expansion { alternatives: 0.0, ..Expansion::one() };
        for alternative in children(value) {
            let expansion = self.schema(alternative);
            let size = sum.size + expansion.size;
            let alternatives = sum.alternatives + expansion.alternatives;
            sum = Expansion { size, alternatives, ..sum.with(expansion) };
        }
        if keyword == "oneOf" {
            // The compiler compares all pairs.
            self.add_cost(&mut sum, count(value) * count(value) / 1000.0);
        }
        Expansion { alternatives: sum.alternatives.max(1.0), ..sum }
    }

    fn reference(&mut self, to: &'a str) -> Expansion<'a> {
        if let Some(expansion) = self.references.get(to) {
            return expansion.clone();
        }
        self.references.insert(to, Expansion { cyclic: true, all_names: true, ..Expansion::one() });
        // The compiler fails if there is no such schema.
        let expansion = self.target(to).map_or_else(Expansion::one, |target| self.schema(target));
        self.references.insert(to, expansion.clone());
        expansion
    }

    /// The schema that a reference names, found as the compiler finds it: an empty step is a key like any other.
    fn target(&self, reference: &str) -> Option<&'a Value> {
        if reference == "#" || reference == "#/" {
            return Some(self.root);
        }
        let mut path = reference.strip_prefix("#/")?.split('/');
        path.try_fold(self.root, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => value.get(step),
        })
    }

    /// The expansion of the keywords that constrain the value directly, if any.
    fn own(&mut self, schema: &'a Value) -> Option<Expansion<'a>> {
        let (mut own, mut types, mut some) = (Expansion::one(), 6.0, false);
        for (keyword, value) in schema.as_object()? {
            match keyword.as_str() {
                "allOf" | "anyOf" | "oneOf" | "enum" | "const" | "$ref" => continue,
                annotation if ANNOTATIONS.split(' ').any(|keyword| keyword == annotation) => {
                    continue
                }
                "x-guidance" if std::ptr::eq(schema, self.root) => continue,
                "type" => types = length(value).max(1.0),
                "pattern" | "format" => {
                    let regex = value.as_str().unwrap_or_default();
                    self.add_cost(&mut own, 50.0);
                    own.size += text_size(regex);
                    own.combinations *= branches(regex);
                }
                "properties" | "prefixItems" => self.each(&mut own, value),
                "items" if value.is_array() => self.each(&mut own, value),
                "items" | "additionalItems" | "additionalProperties" if value.is_object() => {
                    self.all(&mut own, value);
                }
                "patternProperties" => {
                    let (patterns, names) = (length(value), schema["properties"].to_string().len());
                    self.add_cost(&mut own, patterns * (25.0 * patterns + names as f64 / 10.0));
                    own.size += keys(value).map(text_size).sum::<f64>();
                    children(value).for_each(|one| self.all(&mut own, one));
                }
                // Every merged schema has a copy of the names.
                "required" => {
                    let names =
                        children(value).map(|name| text_size(name.as_str().unwrap_or_default()));
                    own.size += names.map(|size| SIZE_PER_NAME + size).sum::<f64>();
                }
                _ => {}
            }
            some = true;
        }
        self.combinations = self.combinations.max(own.combinations);
        some.then_some(Expansion { size: own.size * types, alternatives: types, ..own })
    }

    /// Adds schemas that each apply to one property or item.
    fn each(&mut self, own: &mut Expansion<'a>, value: &'a Value) {
        for one in children(value) {
            let expansion = self.schema(one);
            own.size += expansion.size;
            own.inner += expansion.copies() - 1.0;
            own.cyclic |= expansion.cyclic;
        }
        own.size += keys(value).map(text_size).sum::<f64>();
        match value.as_object() {
            Some(properties) => own.names.extend(properties.keys().map(String::as_str)),
            // A name for the items of arrays.
            None => own.names.extend(["[]"]),
        }
        if self.counted {
            self.add_cost(own, 5.0 * length(value) * length(value));
        }
    }

    /// Adds a schema that is copied to each property or item of a schema that is merged with this one.
    fn all(&mut self, own: &mut Expansion<'a>, schema: &'a Value) {
        let expansion = self.schema(schema);
        own.size += expansion.size;
        own.inner += expansion.size * expansion.copies();
        own.cyclic |= expansion.cyclic;
        own.all_names = true;
    }

    /// Adds a cost in time, as the number of schemas that take as long.
    fn add_cost(&mut self, own: &mut Expansion<'a>, cost: f64) {
        own.size += cost;
        self.total += cost;
    }
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    items.chain(value.as_object().into_iter().flat_map(|entries| entries.values()))
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flat_map(|entries| entries.keys().map(String::as_str))
}

fn length(value: &Value) -> f64 {
    children(value).count() as f64
}

fn count(value: &Value) -> f64 {
    1.0 + children(value).map(count).sum::<f64>()
}

/// The size of all texts in a value.
fn texts(value: &Value) -> f64 {
    let own = value.as_str().map_or(0.0, text_size) + keys(value).map(text_size).sum::<f64>();
    own + children(value).map(texts).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objects(count: usize, key: &str) -> Value {
        (0..count).map(|at| json!({"type": "object", "properties": {key: {"const": at}}})).collect()
    }

    fn object(names: &str, count: usize, schema: &Value) -> Value {
        let all = (0..count).map(|at| (format!("{names}{at}"), schema.clone()));
        json!({"type": "object", "properties": all.collect::<Value>()})
    }

    fn refused(schema: &Value) -> bool {
        check(schema).is_err()
    }

    #[test]
    fn alternatives_are_multiplied() {
        let two = json!({"allOf": [{"anyOf": objects(100, "a")}, {"anyOf": objects(200, "b")}]});
        assert_eq!(check(&two), Ok(()));
        assert!(refused(&json!({"allOf": [two, {"anyOf": objects(9, "c")}]})));
        let inner = |count| object("z", count, &json!({}));
        let all = |count| json!({"properties": {"z": inner(count)}, "anyOf": objects(30, "a")});
        assert_eq!((check(&all(100)), refused(&all(900))), (Ok(()), true));
        let mut none = json!({"properties": {"z": inner(900)}, "anyOf": objects(300, "a")});
        (none["type"], none["enum"]) = (json!([]), json!([]));
        assert!(refused(&none));
    }

    /// Every copy of a schema has its own names and texts.
    #[test]
    fn long_lists_and_texts_count_by_their_size() {
        let any = |count| json!({"anyOf": vec![json!({"type": "object"}); count]});
        let merged = |schema: &Value, count| json!({"allOf": [schema, any(count), any(count)]});
        let names = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>();
        let required = |count| json!({"type": "object", "required": names(count)});
        let literal = json!({"const": "a".repeat(30_000)});
        let pattern = json!({"type": "string", "pattern": "a".repeat(30_000)});
        for long in [required(9_000), literal, pattern] {
            assert_eq!((check(&merged(&long, 5)), refused(&merged(&long, 70))), (Ok(()), true));
        }
        assert_eq!(check(&merged(&required(10), 70)), Ok(()));
    }

    /// The compiler finds them, so their sizes count.
    #[test]
    fn references_may_have_empty_steps() {
        let two = |count| {
            json!({
                "allOf": [{"$ref": "#/$defs//a"}, {"$ref": "#/$defs//b"}],
                "$defs": {"": {
                    "a": {"anyOf": objects(count, "a")}, "b": {"anyOf": objects(count, "b")},
                }},
            })
        };
        assert_eq!((check(&two(10)), refused(&two(400))), (Ok(()), true));
    }

    #[test]
    fn objects_without_common_properties_do_not_multiply_them() {
        let nullable = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        let bases =
            |names: [&str; 4]| json!({"allOf": (names.map(|it| object(it, 50, &nullable)))});
        assert_eq!(check(&bases(["a", "b", "c", "d"])), Ok(()));
        assert!(refused(&bases(["a"; 4])));
    }

    #[test]
    fn a_recursive_schema_is_merged_with_a_base_but_not_with_a_recursive_one() {
        let has =
            |name: &str, to: &str| json!({"properties": {name: {"$ref": format!("#/$defs/{to}")}}});
        let mut schema = json!({"allOf": [{"$ref": "#/$defs/node"}], "$defs": {
            "node": {"allOf": [{"$ref": "#/$defs/base"}, has("next", "node")]},
            "base": has("name", "text"),
            "text": {"type": "string"},
            "tree": has("next", "tree"),
        }});
        assert_eq!(check(&schema), Ok(()));
        schema["allOf"] = json!([{"$ref": "#/$defs/node"}, {"$ref": "#/$defs/tree"}]);
        assert!(matches!(check(&schema), Err(GrammarError::Invalid(_))));
    }

    #[test]
    fn comparing_all_pairs_costs_more() {
        let patterns =
            |count| json!({"patternProperties": object("^x", count, &json!({}))["properties"]});
        assert_eq!((check(&patterns(50)), refused(&patterns(100))), (Ok(()), true));
        let mut counted = object("a", 900, &json!({}));
        assert_eq!(
            (check(&counted), check(&json!({"oneOf": objects(900, "a")}))),
            (Ok(()), Ok(()))
        );
        counted["minProperties"] = json!(1);
        assert!(refused(&counted));
    }
}
