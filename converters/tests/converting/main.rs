//! The writing side, through `colm-convert` as a person runs it.

#[path = "../common/mod.rs"]
mod common;
mod expand;
mod extract;
mod interrupted;
mod model;
mod refusals;
mod round_trips;
