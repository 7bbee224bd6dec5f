//! `--with-python`, of the commands that can write the chain layout.

use anyhow::{Context, Result};
use clap::Args;
use colm_checkpoint::convert::ConversionPlan;

#[derive(Args)]
pub struct WithPython {
    /// Also write the model's code for transformers, so that AutoModelForCausalLM.from_pretrained(DST,
    /// trust_remote_code=True) needs no package. DST must be in the chain layout.
    #[arg(long)]
    with_python: bool,
}

impl WithPython {
    /// `plan`, with the code if it was asked for.
    pub fn added_to(&self, plan: ConversionPlan) -> Result<ConversionPlan> {
        if !self.with_python {
            return Ok(plan);
        }
        plan.with_python().context("--with-python")
    }
}
