//! Names of what the rewritten template calls.

/// The filter that checks the size of a value.
pub const SIZED: &str = "checked_size__";
/// The filter that checks the size and the depth of a value.
pub const CHECKED: &str = "checked__";
/// The filter that refuses what cannot be walked through.
pub const ITEMS: &str = "items__";
/// As [`ITEMS`], for items that several variables take apart.
pub const ITEMS_APART: &str = "items_apart__";
/// The filter that makes a tuple of a list.
pub const TUPLE: &str = "tuple__";
/// The function that makes a macro take its arguments as a Python function does.
pub const MACRO: &str = "macro__";

// The filters that are Python's operators.
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
/// All comparisons and `in`, with the operator as a text before every operand.
pub const COMPARE: &str = "compare__";
pub const SLICE: &str = "slice__";

/// The variable that marks a `with` block as one of `{% generation %}`.
pub const GENERATION: &str = "generation__";
