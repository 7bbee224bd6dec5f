//! Names that the rewritten template calls.

/// The filter that checks the size of a value.
pub const SIZED: &str = "checked_size__";
/// The filter that checks the size and the depth of a value.
pub const CHECKED: &str = "checked__";
/// The filter that checks that a value is iterable.
pub const ITEMS: &str = "items__";
/// As [`ITEMS`], for items that are unpacked into several variables.
pub const UNPACKED_ITEMS: &str = "items_apart__";
/// The filter that turns a list into a tuple.
pub const TUPLE: &str = "tuple__";
/// The function that gives a macro the argument rules of a Python function.
pub const MACRO: &str = "macro__";

// The filters for Python's operators.
pub const ADD: &str = "add__";
pub const SUBTRACT: &str = "subtract__";
pub const MULTIPLY: &str = "multiply__";
pub const DIVIDE: &str = "divide__";
pub const FLOOR_DIVIDE: &str = "floor_divide__";
pub const PERCENT: &str = "percent__";
pub const POWER: &str = "power__";
pub const NEGATE: &str = "negate__";
/// `~`.
pub const CONCAT: &str = "concat__";
/// All comparisons and `in`, with the operator as a string before every operand.
pub const COMPARE: &str = "compare__";
pub const SLICE: &str = "slice__";

/// The variable that marks a `with` block as one of `{% generation %}`.
pub const GENERATION: &str = "generation__";
