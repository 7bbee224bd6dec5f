//! The names of dtypes on the command line.

use clap::ValueEnum;
use colm_checkpoint::Dtype;

#[derive(Clone, Copy, ValueEnum)]
pub enum DtypeName {
    Bf16,
    F16,
    F32,
}

impl From<DtypeName> for Dtype {
    fn from(name: DtypeName) -> Self {
        match name {
            DtypeName::Bf16 => Self::BF16,
            DtypeName::F16 => Self::F16,
            DtypeName::F32 => Self::F32,
        }
    }
}
