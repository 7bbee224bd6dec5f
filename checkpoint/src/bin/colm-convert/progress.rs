//! Progress of reading or writing: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use colm_checkpoint::Progress;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::output::eprint_line;

/// The time between plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub struct Bar {
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
    start: Instant,
    last_line: Instant,
    total: u64,
}

impl Bar {
    pub fn new(total: u64) -> Self {
        let template = "{bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(template);
            ProgressBar::new(total)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let now = Instant::now();
        Self { bar, start: now, last_line: now, total }
    }

    pub fn set(&mut self, progress: Progress) {
        match &self.bar {
            Some(bar) => bar.set_position(progress.done),
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                let seconds = self.start.elapsed().as_secs_f64();
                let per_second = progress.done as f64 / seconds;
                let left = (progress.total - progress.done) as f64 / per_second;
                eprint_line(format!(
                    "{} of {}, {}/s, {left:.0} s left",
                    HumanBytes(progress.done),
                    HumanBytes(progress.total),
                    HumanBytes(per_second as u64)
                ));
                self.last_line = Instant::now();
            }
            None => {}
        }
    }

    /// Prints the duration.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let per_second = HumanBytes((self.total as f64 / seconds) as u64);
        eprint_line(format!("{} in {seconds:.1} s, {per_second}/s", HumanBytes(self.total)));
    }
}
