//! README.md holds: its commands are run as they stand, and what they print is what it says.
//!
//! A command that needs a release build, a GPU or the network is not run. Its flags, targets and packages are
//! looked up instead. `make client-test` runs the Python block.

mod commands;
mod convert;
mod document;
mod measured;
mod run;
mod rust;
mod serve;
