//! The public types can be shared between threads.

use colm_checkpoint::convert::{ConversionPlan, ExpandError};
use colm_checkpoint::json::JsonFileError;
use colm_checkpoint::verify::Problem;
use colm_checkpoint::{
    Checkpoint, CheckpointError, ColmConfig, ConfigError, Source, StaleFolder, TensorSlice,
};

fn assert_shareable<T: Send + Sync + std::fmt::Debug>() {}

#[test]
fn public_types_are_send_sync_and_debug() {
    assert_shareable::<ColmConfig>();
    assert_shareable::<Checkpoint>();
    assert_shareable::<Source>();
    assert_shareable::<TensorSlice<'static>>();
    assert_shareable::<ConversionPlan>();
    assert_shareable::<StaleFolder>();
    assert_shareable::<Problem>();
    assert_shareable::<CheckpointError>();
    assert_shareable::<ConfigError>();
    assert_shareable::<ExpandError>();
    assert_shareable::<JsonFileError>();
}
