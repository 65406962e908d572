//! `GET /events`: the changing parts of the page, as server-sent events (SPEC O3).
//!
//! While someone watches, one task writes the parts once a second, and all watchers get the same text. No request through
//! the proxy waits for that or does anything for it: the task reads what the engine keeps anyway. A watcher holds the
//! newest parts only, so one that reads slowly costs no memory. One that reads nothing for a while is disconnected.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_network_engine::Drain;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::ApiAnswer;
use super::answer::text;
use super::page::Parts;

/// Most watchers at once.
pub(super) const MAX_WATCHERS: usize = 128;
/// How often the parts are written.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a watcher gets a line, so that both sides notice that the other is gone.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How long a watcher may read nothing.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// The watchers of one listener.
#[derive(Debug)]
pub(super) struct Watchers {
    parts: watch::Sender<Arc<Parts>>,
    /// Whether the task that writes the parts runs.
    is_written: Mutex<bool>,
}

/// Whether the watcher of one connection still reads.
#[derive(Debug, Default)]
pub(super) struct Reading(Mutex<Option<Instant>>);

/// One watcher.
struct Watcher {
    parts: watch::Receiver<Arc<Parts>>,
    /// The parts that it has.
    shown: Arc<Parts>,
    beat: Interval,
    drain: Drain,
    reading: Arc<Reading>,
}

impl Watchers {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            parts: watch::Sender::new(Arc::default()),
            is_written: Mutex::new(false),
        })
    }

    /// Begins to send to a watcher. `write` makes the parts.
    pub(super) fn watch(
        self: &Arc<Self>,
        write: impl Fn() -> Parts + Send + 'static,
        drain: Drain,
        reading: Arc<Reading>,
    ) -> ApiAnswer {
        if self.parts.receiver_count() >= MAX_WATCHERS {
            let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open");
            let headers = answer.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            return answer;
        }
        let mut beat = interval(BEAT_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watcher = Watcher {
            parts: self.parts.subscribe(),
            shown: Arc::default(),
            beat,
            drain,
            reading,
        };
        self.write_while_watched(write);
        let events = stream::unfold(watcher, |mut watcher| async {
            let event = watcher.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(event)), watcher))
        });
        let mut answer = Response::new(StreamBody::new(events).boxed());
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    /// Starts the task that writes the parts, unless it runs.
    fn write_while_watched(self: &Arc<Self>, write: impl Fn() -> Parts + Send + 'static) {
        let mut is_written = self.is_written.lock();
        if std::mem::replace(&mut *is_written, true) {
            return;
        }
        drop(is_written);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let parts = write();
                this.parts.send_if_modified(|shown| {
                    let changes = **shown != parts;
                    if changes {
                        *shown = Arc::new(parts);
                    }
                    changes
                });
                tokio::time::sleep(WRITE_INTERVAL).await;
                let mut is_written = this.is_written.lock();
                if this.parts.receiver_count() == 0 {
                    *is_written = false;
                    return;
                }
            }
        });
    }
}

impl Reading {
    fn note(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Resolves when the connection has a watcher that has read nothing for too long.
    pub(super) async fn stops(&self) {
        loop {
            tokio::time::sleep(BEAT_INTERVAL).await;
            if self
                .0
                .lock()
                .is_some_and(|last| last.elapsed() > SILENCE_TIMEOUT)
            {
                return;
            }
        }
    }
}

impl Watcher {
    /// The next event; `None` when the proxy stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // It is called only when the connection takes more.
            self.reading.note();
            let parts = Arc::clone(&self.parts.borrow_and_update());
            if let Some(event) = event(&self.shown, &parts) {
                self.shown = parts;
                return Some(event);
            }
            tokio::select! {
                changed = self.parts.changed() => changed.ok()?,
                _ = self.beat.tick() => return Some(Bytes::from_static(b": still here\n\n")),
                () = self.drain.begun() => return None,
            }
        }
    }
}

/// An event with the parts that are new; `None` if there are none.
fn event(shown: &Parts, new: &Parts) -> Option<Bytes> {
    let mut changed = Map::new();
    for (id, shown, new) in [
        ("state", &shown.state, &new.state),
        ("blocked", &shown.blocked, &new.blocked),
        ("sessions", &shown.sessions, &new.sessions),
    ] {
        if shown != new {
            changed.insert(id.to_owned(), Value::from(new.as_str()));
        }
    }
    // JSON has no line ends, which would end the field.
    (!changed.is_empty())
        .then(|| format!("retry: 1000\ndata: {}\n\n", Value::Object(changed)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(state: &str) -> Parts {
        Parts {
            state: state.to_owned(),
            ..Parts::default()
        }
    }

    #[test]
    fn o3_an_event_has_the_changed_parts_alone_and_one_line_of_data() {
        assert_eq!(event(&parts("a"), &parts("a")), None);
        let sent = event(&parts("a"), &parts("b\nc")).expect("a change");
        assert_eq!(sent, "retry: 1000\ndata: {\"state\":\"b\\nc\"}\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn o3_a_watcher_that_reads_nothing_is_noticed() {
        let reading = Reading::default();
        let waits = tokio::time::timeout(SILENCE_TIMEOUT * 4, reading.stops());
        assert!(waits.await.is_err(), "a connection without a watcher");
        *reading.0.lock() = Instant::now().checked_sub(SILENCE_TIMEOUT * 2);
        reading.stops().await;
    }

    #[tokio::test]
    async fn o3_watchers_are_limited_and_make_room_when_they_go() {
        let (watchers, drain) = (Watchers::new(), Drain::new());
        let watch = || {
            let (drain, reading) = (drain.clone(), Arc::default());
            watchers.watch(|| parts("a"), drain, reading)
        };
        let mut watching: Vec<_> = (0..MAX_WATCHERS).map(|_| watch()).collect();
        assert!(
            watching
                .iter()
                .all(|answer| answer.status() == StatusCode::OK)
        );
        assert_eq!(watch().status(), StatusCode::SERVICE_UNAVAILABLE);
        watching.pop();
        assert_eq!(watch().status(), StatusCode::OK);
    }
}
