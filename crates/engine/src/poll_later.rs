//! Lets other tasks run in the middle of long work.

use std::pin::pin;
use std::task::{Context, Poll};

use tokio::task::yield_now;

/// Continues after the other tasks of the thread, and after those whose sockets have become ready. A task that
/// wakes itself goes into the runtime's queue at once, and the runtime looks at the sockets only after 61 tasks.
pub(crate) fn poll_later<T>(cx: &mut Context<'_>) -> Poll<T> {
    let _first_poll = pin!(yield_now()).poll(cx);
    Poll::Pending
}
