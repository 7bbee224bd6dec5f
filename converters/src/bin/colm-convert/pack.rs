//! `colm-convert pack`

use anyhow::Result;
use clap::Args;
use colm_checkpoint::convert;

use crate::destination::Destination;
use crate::output::say;

/// Dense layout to chain layout: one file per chain, and an index.
///
/// Every block above the block diagonal must be zero; one that is not is an error that names the tensor,
/// the block, how many values are not zero and the largest of them.
///
/// Example: colm-convert pack trained-dense colm-1b
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Pack {
    #[command(flatten)]
    destination: Destination,
    /// Drop values above the block diagonal up to this magnitude, and report them.
    #[arg(long, value_name = "TOL", value_parser = tolerance)]
    drop_above_diagonal: Option<f64>,
}

impl Pack {
    pub fn run(self) -> Result<()> {
        let source = self.destination.open_source()?;
        let plan = convert::pack(&source)?;
        self.destination.prepare(&source, &plan)?;
        for dropped in convert::dropped_values(&source, self.drop_above_diagonal.unwrap_or(0.))? {
            say(format!(
                "`{}`: dropped {} values above the block diagonal, the largest {:e}",
                dropped.id, dropped.count, dropped.largest
            ))?;
        }
        self.destination.write(&source, &plan)
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(tolerance) if tolerance >= 0. => Ok(tolerance),
        _ => Err("expected a number of at least 0, such as 1e-8".into()),
    }
}
