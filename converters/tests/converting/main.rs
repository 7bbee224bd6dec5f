//! The writing side, through `colm-convert` as a person runs it.

mod closed_output;
#[path = "../common/mod.rs"]
mod common;
mod expand;
mod extract;
mod interrupted;
mod model;
mod refusals;
mod replacing;
mod room;
mod round_trips;
#[cfg(target_os = "linux")]
mod side_files;
