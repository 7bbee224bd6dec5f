//! Comparisons with Hugging Face transformers.

mod fixtures;
mod rendered;
mod tokens;
