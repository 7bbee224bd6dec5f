//! A progress bar on stderr, shown only in a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar with `steps` steps.
pub fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} [{elapsed} < {eta}]");
    ProgressBar::new(steps as u64).with_style(style.expect("the template is well-formed"))
}
