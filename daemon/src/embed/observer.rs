//! Tells an embedder about refusals, without ever waiting for it.
//!
//! Refusals go into a bounded queue, and a task passes them to the observer. A slow observer misses
//! some, which the numbers show. One that panics still gets the next refusal.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use codex_network_engine::BlockedEntry;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Largest number of refusals that wait for the observer.
pub(super) const MAX_WAITING_REFUSALS: usize = 1024;
/// How long the observer may take for the remaining refusals when the proxy ends.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Gets every refused request. Every async closure that takes one is an observer.
pub trait BlockedRequestObserver: Send + Sync + 'static {
    /// Takes one refusal. Calls do not overlap. A gap in `sequence` means that some were missed.
    fn on_blocked_request(&self, request: BlockedEntry) -> BoxFuture<'_, ()>;
}

impl<F, D> BlockedRequestObserver for F
where
    F: Fn(BlockedEntry) -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    fn on_blocked_request(&self, request: BlockedEntry) -> BoxFuture<'_, ()> {
        Box::pin(self(request))
    }
}

/// The task that calls the observer. Dropping it ends it at once.
pub(super) struct ObserverTask {
    end: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl ObserverTask {
    /// Begins to pass on the refusals in the queue.
    pub(super) fn start(
        observer: Arc<dyn BlockedRequestObserver>,
        mut queue: mpsc::Receiver<BlockedEntry>,
    ) -> Self {
        let (end, mut ended) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(entry) = queue.recv() => report(observer.as_ref(), entry).await,
                    _ = ended.recv() => break,
                }
            }
            while let Ok(entry) = queue.try_recv() {
                report(observer.as_ref(), entry).await;
            }
        });
        Self { end, task }
    }

    /// Passes on the remaining refusals, within a second, and ends.
    pub(super) async fn finish(mut self) {
        let _ = self.end.try_send(());
        if tokio::time::timeout(FINISH_TIMEOUT, &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for ObserverTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn report(observer: &dyn BlockedRequestObserver, entry: BlockedEntry) {
    let reported = AssertUnwindSafe(async { observer.on_blocked_request(entry).await });
    if reported.catch_unwind().await.is_err() {
        tracing::error!("the observer of blocked requests panicked");
    }
}
