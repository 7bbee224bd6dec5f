//! `colm-convert cast`

use anyhow::Result;
use clap::Args;
use colm_checkpoint::convert;

use crate::destination::Destination;
use crate::dtype::DtypeName;
use crate::with_python::WithPython;

const EXAMPLES: &str = "\
Example: colm-convert cast colm-1b colm-1b-bf16 --dtype bf16";

/// Convert to another dtype, rounding to nearest, ties to even. A finite value that is too large for
/// the dtype is an error.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Cast {
    #[command(flatten)]
    destination: Destination,
    /// The dtype of every tensor of DST.
    #[arg(long, allow_negative_numbers = true)]
    dtype: DtypeName,
    #[command(flatten)]
    python: WithPython,
}

impl Cast {
    pub fn run(self) -> Result<()> {
        let source = self.destination.open_source()?;
        let plan = self.python.added_to(convert::cast(&source, self.dtype.into())?)?;
        self.destination.prepare(&source, &plan)?;
        source.check_zero_submatrices()?;
        self.destination.write(&source, &plan)
    }
}
