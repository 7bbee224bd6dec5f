//! Asking a store which blocks it has, without reading them.

use std::sync::Arc;

use futures::{stream, StreamExt, TryStreamExt};
use tokio::time::timeout;

use crate::backend::BackendError;
use crate::read::WINDOW;
use crate::shared::Shared;
use crate::BlockKey;

/// Asks for `keys`, and remembers those that are there and forgets the others. Returns how many of the first ones are
/// there, without a gap. If the store does not answer, nothing is forgotten, and what is remembered counts.
pub(crate) async fn refresh_known(shared: Arc<Shared>, keys: Vec<BlockKey>) -> usize {
    if let Some(found) = look_up(&shared, &keys).await {
        return found.iter().take_while(|found| **found).count();
    }
    keys.iter().take_while(|key| shared.known.contains(key)).count()
}

/// Whether each key is there. `None` if the store did not answer.
async fn look_up(shared: &Shared, keys: &[BlockKey]) -> Option<Vec<bool>> {
    if keys.is_empty() {
        return Some(Vec::new());
    }
    let permit = shared.reads.permit()?;
    let mark = shared.known.mark();
    let asking = stream::iter(keys.to_vec()).map(|key| shared.backend.exists(key));
    let answers = asking.buffered(WINDOW).try_collect::<Vec<bool>>();
    let answers: Result<_, BackendError> = match timeout(shared.timeout, answers).await {
        Ok(answers) => answers,
        Err(_) => {
            permit.failed();
            let what = format_args!("{} blocks of a prompt were not looked up", keys.len());
            shared.read_timed_out(what, shared.timeout);
            return None;
        }
    };
    match answers {
        Ok(found) => {
            permit.succeeded();
            let key = |there| {
                let pairs = keys.iter().zip(&found);
                pairs.filter(move |(_, found)| **found == there).map(|(key, _)| key)
            };
            key(true).for_each(|key| shared.known.insert(*key));
            shared.known.forget_before(mark, key(false));
            Some(found)
        }
        Err(error) => {
            permit.failed();
            shared.read_failed(&error);
            None
        }
    }
}
