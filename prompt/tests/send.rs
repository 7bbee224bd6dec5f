//! The public types can be shared between threads.

use colm_prompt::{
    ChatTemplate, Conversation, FolderError, PromptFolder, RenderError, TemplateError,
};

fn assert_shareable<T: Send + Sync + std::fmt::Debug>() {}

#[test]
fn public_types_are_send_sync_and_debug() {
    assert_shareable::<PromptFolder>();
    assert_shareable::<ChatTemplate>();
    assert_shareable::<Conversation>();
    assert_shareable::<FolderError>();
    assert_shareable::<TemplateError>();
    assert_shareable::<RenderError>();
}
