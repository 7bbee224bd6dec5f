//! Writing, through the program `colm-convert`.

mod closed_output;
mod disk_space;
mod errors;
mod expand;
mod extract;
mod interrupted;
mod model;
mod model_card;
mod python_code;
mod ratios;
mod replacing;
mod round_trips;
#[cfg(target_os = "linux")]
mod side_files;
