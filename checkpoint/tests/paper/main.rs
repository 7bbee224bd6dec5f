//! Folders in the paper's own conventions. The golden ones were written by `tests/golden/make_golden.py`, together with
//! the same weights in the chain layout.

mod conversions;
mod folder;
mod mutated;
mod params;
mod state_dict;
mod weights;
