//! The formats in which models write tool calls.

/// Markers that are special tokens in many tokenizers. The parser expects them as text.
pub const MARKERS: [&str; 4] = [HERMES, HERMES_END, MISTRAL, PYTHON];

pub(super) const HERMES: &str = "<tool_call>";
pub(super) const HERMES_END: &str = "</tool_call>";
pub(super) const MISTRAL: &str = "[TOOL_CALLS]";
pub(super) const MISTRAL_ARGUMENTS: &str = "[ARGS]";
pub(super) const PYTHON: &str = "<|python_tag|>";

/// The markers that start a call.
pub(super) const OPENING: [(&str, Format); 3] =
    [(HERMES, Format::Hermes), (MISTRAL, Format::Mistral), (PYTHON, Format::Python)];

/// A format of calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// `<tool_call>{..}</tool_call>`
    Hermes,
    /// `[TOOL_CALLS][{..}, ..]` or `[TOOL_CALLS]name{..}` or `[TOOL_CALLS]name[ARGS]{..}`
    Mistral,
    /// `<|python_tag|>{..}; ..`
    Python,
    /// `{..}; ..` as the whole answer.
    Bare,
}
