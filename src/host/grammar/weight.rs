//! How large the grammar of a schema becomes.
//!
//! Where several schemas hold for one value, as with `allOf`, or `anyOf` beside other keywords, the compiler
//! multiplies their alternatives out: some kilobytes can become gigabytes. It limits how many schemas it merges,
//! but not how large they are. So what would come out is counted here first, rather too high than too low.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::size::at_most;
use super::GrammarError;

/// In schemas: each takes some 15 microseconds and a kilobyte or two.
const MAX_WEIGHT: usize = 100_000;
/// Keywords that say nothing about the value.
const NOTES: &str = "title description default examples $comment $anchor readOnly writeOnly $defs \
    definitions $schema $id id";
/// Stands for all that is more: no product of it is infinite.
const LOTS: f64 = 1e100;

/// Fails if too much would become of a schema. Goes as deep as references go: for a thread with stack.
pub(super) fn weigh(schema: &Value) -> Result<(), GrammarError> {
    let (text, references) = (schema.to_string(), HashMap::new());
    let counted = text.contains("minProperties") || text.contains("maxProperties");
    let mut scale = Scale { root: schema, references, counted, total: 0.0, endless: false };
    scale.schema(schema);
    if scale.endless {
        let told = "a schema that refers to itself is merged with one that has the same properties";
        return Err(GrammarError::Invalid(format!("{told}: expected no such allOf or $ref")));
    }
    at_most("schemas once they are multiplied out", scale.total as usize, MAX_WEIGHT)
}

/// What becomes of a schema.
#[derive(Clone)]
struct Weight<'a> {
    /// How many schemas, with those it refers to.
    size: f64,
    /// How many alternatives: so many copies are made of a schema that is merged with it.
    ways: f64,
    /// How many further copies are made if the merge goes into properties of both.
    inner: f64,
    /// Whether it comes back to itself.
    cyclic: bool,
    /// The properties it has schemas for,
    names: BTreeSet<&'a str>,
    /// or whether it has one for whatever property another names.
    all_names: bool,
}

impl<'a> Weight<'a> {
    fn one() -> Self {
        let names = BTreeSet::new();
        Self { size: 1.0, ways: 1.0, inner: 0.0, cyclic: false, names, all_names: false }
    }

    /// Of these values and no other.
    fn literals<'v>(values: impl Iterator<Item = &'v Value>) -> Self {
        let sizes: Vec<f64> = values.map(count).collect();
        let (size, ways) = (sizes.iter().sum(), sizes.len() as f64);
        Self { size, ways: ways.max(1.0), all_names: size > ways, ..Self::one() }
    }

    fn copies(&self) -> f64 {
        (self.ways * (1.0 + self.inner)).min(LOTS)
    }

    /// Of both, with what one of them does and names.
    fn with(mut self, other: Self) -> Self {
        self.inner = self.inner.max(other.inner);
        self.cyclic |= other.cyclic;
        self.all_names |= other.all_names;
        self.names.extend(other.names);
        self
    }

    /// Whether a merge with another goes into a property of both.
    fn meets(&self, other: &Self) -> bool {
        let any = |weight: &Self| weight.all_names || !weight.names.is_empty();
        !self.names.is_disjoint(&other.names)
            || self.all_names && any(other)
            || other.all_names && any(self)
    }
}

struct Scale<'a> {
    root: &'a Value,
    /// While one is being weighed, it is a cycle of size one.
    references: HashMap<&'a str, Weight<'a>>,
    /// Whether there is a `minProperties` or `maxProperties`: all pairs of properties are gone through.
    counted: bool,
    /// Of what is merged or compared; the rest is as large as it is written.
    total: f64,
    /// Whether a cycle is merged with what may have the same cycle.
    endless: bool,
}

impl<'a> Scale<'a> {
    fn schema(&mut self, schema: &'a Value) -> Weight<'a> {
        let Value::Object(keywords) = schema else { return Weight::one() };
        let mut parts: Vec<Weight> = self.own(schema).into_iter().collect();
        for (keyword, value) in keywords {
            match keyword.as_str() {
                "allOf" => parts.extend(children(value).map(|part| self.schema(part))),
                "anyOf" | "oneOf" => parts.push(self.alternatives(keyword, value)),
                "enum" => parts.push(Weight::literals(children(value))),
                "const" => parts.push(Weight::literals([value].into_iter())),
                "$ref" => parts.extend(value.as_str().map(|to| self.reference(to))),
                _ => {}
            }
        }
        parts.into_iter().reduce(|a, b| self.merge(a, b)).unwrap_or_else(Weight::one)
    }

    fn merge(&mut self, a: Weight<'a>, b: Weight<'a>) -> Weight<'a> {
        let (ways, meets) = ((a.ways * b.ways).min(LOTS), a.meets(&b));
        let (size, inner) = match meets {
            true => (a.size * b.copies() + b.size * a.copies(), a.copies() * b.copies() / ways),
            false => (a.size * b.ways + b.size * a.ways, a.inner + b.inner),
        };
        let size = size.min(LOTS);
        self.total += size;
        self.endless |= meets && (a.cyclic || b.cyclic);
        Weight { size, ways, inner, ..a.with(b) }
    }

    fn alternatives(&mut self, keyword: &str, value: &'a Value) -> Weight<'a> {
        let mut sum = Weight { ways: 0.0, ..Weight::one() };
        for alternative in children(value) {
            let weight = self.schema(alternative);
            let (size, ways) = (sum.size + weight.size, sum.ways + weight.ways);
            sum = Weight { size, ways, ..sum.with(weight) };
        }
        if keyword == "oneOf" {
            // Each is compared with each.
            self.pay(&mut sum, count(value) * count(value) / 1000.0);
        }
        Weight { ways: sum.ways.max(1.0), ..sum }
    }

    fn reference(&mut self, to: &'a str) -> Weight<'a> {
        if let Some(weight) = self.references.get(to) {
            return weight.clone();
        }
        self.references.insert(to, Weight { cyclic: true, all_names: true, ..Weight::one() });
        let mut path = to.trim_start_matches(['#', '/']).split('/').filter(|step| !step.is_empty());
        let target = path.try_fold(self.root, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => value.get(step),
        });
        let weight = target.map_or_else(Weight::one, |target| self.schema(target));
        self.references.insert(to, weight.clone());
        weight
    }

    /// Of the keywords that describe the value themselves, if any.
    fn own(&mut self, schema: &'a Value) -> Option<Weight<'a>> {
        let (mut own, mut types, mut some) = (Weight::one(), 6.0, false);
        for (keyword, value) in schema.as_object()? {
            match keyword.as_str() {
                "allOf" | "anyOf" | "oneOf" | "enum" | "const" | "$ref" => continue,
                note if NOTES.split(' ').any(|keyword| keyword == note) => continue,
                "x-guidance" if std::ptr::eq(schema, self.root) => continue,
                "type" => types = length(value).max(1.0),
                "pattern" | "format" => self.pay(&mut own, 50.0),
                "properties" | "prefixItems" => self.each(&mut own, value),
                "items" if value.is_array() => self.each(&mut own, value),
                "items" | "additionalItems" | "additionalProperties" if value.is_object() => {
                    self.all(&mut own, value);
                }
                "patternProperties" => {
                    let (patterns, names) = (length(value), schema["properties"].to_string().len());
                    self.pay(&mut own, patterns * (25.0 * patterns + names as f64 / 10.0));
                    children(value).for_each(|one| self.all(&mut own, one));
                }
                _ => {}
            }
            some = true;
        }
        some.then_some(Weight { size: own.size * types, ways: types, ..own })
    }

    /// Adds schemas that each hold for one property or item.
    fn each(&mut self, own: &mut Weight<'a>, value: &'a Value) {
        for one in children(value) {
            let weight = self.schema(one);
            own.size += weight.size;
            own.inner += weight.copies() - 1.0;
            own.cyclic |= weight.cyclic;
        }
        match value.as_object() {
            Some(properties) => own.names.extend(properties.keys().map(String::as_str)),
            // Stands for the items of arrays.
            None => own.names.extend(["[]"]),
        }
        if self.counted {
            self.pay(own, 5.0 * length(value) * length(value));
        }
    }

    /// Adds a schema that is copied to each property or item of a schema merged with this.
    fn all(&mut self, own: &mut Weight<'a>, schema: &'a Value) {
        let weight = self.schema(schema);
        own.size += weight.size;
        own.inner += weight.size * weight.copies();
        own.cyclic |= weight.cyclic;
        own.all_names = true;
    }

    /// Adds what takes time as so many schemas would.
    fn pay(&mut self, own: &mut Weight<'a>, cost: f64) {
        own.size += cost;
        self.total += cost;
    }
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    items.chain(value.as_object().into_iter().flat_map(|entries| entries.values()))
}

fn length(value: &Value) -> f64 {
    children(value).count() as f64
}

fn count(value: &Value) -> f64 {
    1.0 + children(value).map(count).sum::<f64>()
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
        weigh(schema).is_err()
    }

    #[test]
    fn alternatives_are_multiplied() {
        let two = json!({"allOf": [{"anyOf": objects(100, "a")}, {"anyOf": objects(200, "b")}]});
        assert_eq!(weigh(&two), Ok(()));
        assert!(refused(&json!({"allOf": [two, {"anyOf": objects(9, "c")}]})));
        let inner = |count| object("z", count, &json!({}));
        let all = |count| json!({"properties": {"z": inner(count)}, "anyOf": objects(30, "a")});
        assert_eq!((weigh(&all(100)), refused(&all(900))), (Ok(()), true));
        let mut none = json!({"properties": {"z": inner(900)}, "anyOf": objects(300, "a")});
        (none["type"], none["enum"]) = (json!([]), json!([]));
        assert!(refused(&none));
    }

    #[test]
    fn objects_of_other_properties_multiply_only_their_own_alternatives() {
        let nullable = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        let bases =
            |names: [&str; 4]| json!({"allOf": (names.map(|it| object(it, 50, &nullable)))});
        assert_eq!(weigh(&bases(["a", "b", "c", "d"])), Ok(()));
        assert!(refused(&bases(["a"; 4])));
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_merged_with_a_base_but_not_with_another_self() {
        let has =
            |name: &str, to: &str| json!({"properties": {name: {"$ref": format!("#/$defs/{to}")}}});
        let mut schema = json!({"allOf": [{"$ref": "#/$defs/node"}], "$defs": {
            "node": {"allOf": [{"$ref": "#/$defs/base"}, has("next", "node")]},
            "base": has("name", "text"),
            "text": {"type": "string"},
            "tree": has("next", "tree"),
        }});
        assert_eq!(weigh(&schema), Ok(()));
        schema["allOf"] = json!([{"$ref": "#/$defs/node"}, {"$ref": "#/$defs/tree"}]);
        assert!(matches!(weigh(&schema), Err(GrammarError::Invalid(_))));
    }

    #[test]
    fn what_goes_through_all_pairs_weighs_more() {
        let patterns =
            |count| json!({"patternProperties": object("^x", count, &json!({}))["properties"]});
        assert_eq!((weigh(&patterns(50)), refused(&patterns(100))), (Ok(()), true));
        let mut counted = object("a", 900, &json!({}));
        assert_eq!(
            (weigh(&counted), weigh(&json!({"oneOf": objects(900, "a")}))),
            (Ok(()), Ok(()))
        );
        counted["minProperties"] = json!(1);
        assert!(refused(&counted));
    }
}
