//! The progress bar of a load.

use indicatif::{ProgressBar, ProgressStyle};

/// Counts the layers that are loaded, on stderr.
pub struct LoadBar(ProgressBar);

impl LoadBar {
    /// A bar of `layers` steps; invisible if it is not `shown`, or if stderr is not a terminal.
    pub fn new(layers: usize, shown: bool) -> Self {
        let bar = if shown { ProgressBar::new(layers as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("loading {bar:40} {pos}/{len} layers {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows that `layers` are loaded.
    pub fn show(&self, layers: usize) {
        self.0.set_position(layers as u64);
    }
}

impl Drop for LoadBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
