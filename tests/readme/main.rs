//! Checks README.md: runs its commands unchanged and compares their output with the text.
//!
//! A command that needs a release build, a GPU or the network is not run; its flags, targets and packages are looked up
//! instead. `make client-test` runs the Python block.

mod commands;
mod convert;
mod document;
mod measured;
mod run;
mod rust;
mod serve;
