//! `colm-convert pack`

use anyhow::Result;
use clap::Args;
use colm_checkpoint::convert;

use crate::destination::Destination;
use crate::numbers::tolerance;
use crate::output::print_line;
use crate::with_python::WithPython;

const EXAMPLES: &str = "\
Examples:
  colm-convert pack trained-dense colm-1b
  colm-convert pack torchtitan-checkpoint colm-1b";

/// Convert the dense layout to the chain layout: one file per chain, and an index. Also convert the
/// paper's own conventions: a folder with params.json and the tensor names of TorchTitan and Meta.
///
/// Every submatrix above the diagonal, by which a chain would read a later one, must be zero. The error
/// for a nonzero one names the tensor, its rows and columns, the number of nonzero values and the
/// largest.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Pack {
    #[command(flatten)]
    destination: Destination,
    /// Drop values above the diagonal up to this magnitude, and report them.
    #[arg(long, value_name = "TOL", value_parser = tolerance, allow_hyphen_values = true)]
    drop_above_diagonal: Option<f64>,
    #[command(flatten)]
    python: WithPython,
}

impl Pack {
    pub fn run(self) -> Result<()> {
        let source = self.destination.open_source()?;
        let mut plan = self.python.added_to(convert::to_chain_layout(&source)?)?;
        self.destination.prepare(&source, &plan)?;
        for dropped in convert::dropped_values(&source, self.drop_above_diagonal.unwrap_or(0.))? {
            plan = plan.with_other_weights();
            print_line(format!(
                "`{}`: dropped {} values above the diagonal, the largest {:e}",
                dropped.id, dropped.count, dropped.largest
            ))?;
        }
        self.destination.write(&source, &plan)
    }
}
