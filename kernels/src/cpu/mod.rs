//! The functions of this crate on the CPU.

pub(crate) mod attention;
pub(crate) mod element;
pub(crate) mod exp;
pub(crate) mod lanes;
pub(crate) mod rows;
pub(crate) mod sweep;

pub(crate) use element::{for_dtype, Element};
pub(crate) use rows::Rows;
