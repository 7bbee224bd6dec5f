//! The task that writes queued blocks.

use std::sync::Arc;

use futures::{stream, StreamExt};
use tokio::sync::{mpsc, Semaphore};
use tokio::time::timeout;

use crate::block;
use crate::read::BYTES_AT_ONCE;
use crate::shared::Shared;
use crate::write_queue::QueuedWrite;

/// The most blocks that are written at the same time, if they are small.
pub(crate) const WRITES: usize = 8;

/// The time limit of a write, as a multiple of the time-out of a read. Nobody waits for a write.
const PATIENCE: u32 = 10;

/// Writes what is queued, in order, [`WRITES`] blocks and about [`BYTES_AT_ONCE`] at a time.
pub(crate) async fn run(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<QueuedWrite>) {
    let writes = stream::poll_fn(move |context| queue.poll_recv(context));
    let room = Semaphore::new(BYTES_AT_ONCE);
    let write = async |write: QueuedWrite| {
        let bytes = write.ticket.bytes.min(BYTES_AT_ONCE) as u32;
        let _room = room.acquire_many(bytes).await;
        write_block(&shared, write).await;
    };
    writes.for_each_concurrent(WRITES, write).await;
}

async fn write_block(shared: &Shared, write: QueuedWrite) {
    let QueuedWrite { mut block, index, ticket } = write;
    let key = ticket.key;
    let Some(permit) = shared.writes.permit() else {
        return shared.dropped("the circuit breaker is open");
    };
    let limit = shared.timeout.saturating_mul(PATIENCE);
    let sealed = move || {
        block::seal(&mut block);
        block
    };
    match timeout(limit, shared.backend.write(key, index, sealed)).await {
        Ok(Ok(evicted)) => {
            permit.succeeded();
            shared.known.insert(key);
            shared.known.forget(&evicted.keys);
            shared.counters.written_blocks.add(1);
            shared.counters.bytes_written.add(ticket.bytes as u64);
            shared.counters.evicted_blocks.add(evicted.blocks);
        }
        Ok(Err(error)) => {
            // What is in the way of one block does not keep the others from being written.
            if error.concerns_one_entry() {
                permit.succeeded();
            } else {
                permit.failed();
            }
            shared.write_failed(key, &error);
        }
        Err(_) => {
            permit.failed();
            shared.write_failed(key, &format!("it took more than {limit:?}"));
        }
    }
    // Only now, so that the block is either queued or known at any time.
    drop(ticket);
}
