//! Ends an engine in two steps. After [`Drain::begin`], listeners stop accepting, kept-alive connections
//! end after the request in hand, and tunnels go on. [`Drain::cut`] ends everything that is left at
//! once. Every task of an engine is tracked here, so that no task outlives it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::rare::rarely;

/// The two signals and the tasks that they reach.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// The drain of a part of an engine.
#[derive(Clone, Debug)]
pub(crate) struct DrainPart(Drain);

impl DrainPart {
    /// The signals and the tasks of the part.
    pub(crate) fn drain(&self) -> &Drain {
        &self.0
    }

    /// Ends every task of the part at once.
    pub(crate) fn cut(&self) {
        self.0.begun.cancel();
        self.0.cut.cancel();
    }
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of the engine that can end by itself. It ends with the whole, and the whole waits for its
    /// tasks.
    pub(crate) fn part(&self) -> DrainPart {
        let drain = Self {
            begun: self.begun.child_token(),
            cut: self.cut.child_token(),
            tasks: self.tasks.clone(),
        };
        DrainPart(drain)
    }

    /// Begins the drain: every task finishes its work.
    pub fn begin(&self) {
        self.begun.cancel();
        self.tasks.close();
    }

    /// Ends every task at once.
    pub fn cut(&self) {
        self.begin();
        self.cut.cancel();
    }

    /// Begins the drain, waits until every task has ended or `limit` is over, and then cuts. Returns the
    /// number of tasks that were cut.
    pub async fn finish(&self, limit: Duration) -> usize {
        self.begin();
        let left = match tokio::time::timeout(limit, self.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tasks.len(),
        };
        self.cut();
        self.tasks.wait().await;
        left
    }

    /// Resolves when the drain begins, or at once if it has begun.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Resolves when the drain has begun and every task has ended.
    pub async fn ended(&self) {
        self.begun().await;
        self.tasks.wait().await;
    }

    /// A signal that the drain gives when it begins, and that may be given before.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.begun.child_token()
    }

    /// The signal that the drain gives when it begins. Do not give it in another way.
    pub(crate) fn begun_signal(&self) -> CancellationToken {
        self.begun.clone()
    }

    /// The number of tasks that run.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Whether the drain was cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Runs a task until the drain begins.
    pub fn spawn_until_begun(&self, task: impl Future<Output = ()> + Send + 'static) {
        let begun = self.begun.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = rarely(|| begun.cancelled()) => {}
                () = task => {}
            }
        });
    }

    /// Runs a task that the drain waits for, until it is cut.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            // `select!` would hold these futures twice.
            let mut cut = pin!(rarely(|| cut.cancelled()));
            let mut task = pin!(task);
            poll_fn(|cx| {
                if cut.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                task.as_mut().poll(cx)
            })
            .await;
        });
    }
}
