//! `colm-convert unpack`

use anyhow::Result;
use clap::Args;
use colm_checkpoint::convert;

use crate::destination::Destination;

const EXAMPLES: &str = "\
Example: colm-convert unpack colm-1b to-train-on";

/// Convert the chain layout to the dense layout: Llama's names and full matrices in one file, with
/// zeros above the diagonal.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Unpack {
    #[command(flatten)]
    destination: Destination,
}

impl Unpack {
    pub fn run(self) -> Result<()> {
        let source = self.destination.open_source()?;
        let plan = convert::to_dense_layout(&source)?;
        self.destination.prepare(&source, &plan)?;
        source.check_zero_submatrices()?;
        self.destination.write(&source, &plan)
    }
}
