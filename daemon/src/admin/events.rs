//! `GET /events`: the changing parts of the page, as server-sent events (SPEC O3).
//!
//! While someone watches, one task writes the parts once a second. It also writes the events, and all watchers get the
//! same bytes. No request through the proxy waits for that or does anything for it: the task reads what the engine keeps
//! anyway. A watcher gets the newest parts only, so one that reads slowly costs no memory, and `stalled` ends the
//! connection of one that reads nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

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
pub(super) const MAX_WATCHERS: usize = 256;
/// How often the parts are written.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a watcher gets a line, so that both sides notice that the other is gone.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The watchers of one listener.
#[derive(Debug)]
pub(super) struct Watchers {
    newest: watch::Sender<Arc<Edition>>,
    /// Whether the task that writes the parts runs.
    is_written: Mutex<bool>,
    /// How many watchers each user has. Those whose user the kernel does not name are of one user.
    places: Mutex<HashMap<Option<u32>, usize>>,
}

/// The parts at one moment, and the events that show them.
#[derive(Debug, Default)]
struct Edition {
    /// Counts up from 1.
    number: u64,
    parts: Parts,
    /// For a watcher that has the edition before.
    change: Bytes,
    /// For every other watcher.
    whole: Bytes,
}

/// One watcher.
struct Watcher {
    newest: watch::Receiver<Arc<Edition>>,
    /// The number of the edition that it has.
    shown: Option<u64>,
    beat: Interval,
    drain: Drain,
    _place: WatcherPlace,
}

/// The place of one watcher, until it is dropped.
struct WatcherPlace {
    watchers: Arc<Watchers>,
    user: Option<u32>,
}

impl Watchers {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            newest: watch::Sender::new(Arc::default()),
            is_written: Mutex::new(false),
            places: Mutex::default(),
        })
    }

    /// Begins to send to a watcher of this user. `write` makes the parts.
    pub(super) fn watch(
        self: &Arc<Self>,
        write: impl Fn() -> Parts + Send + 'static,
        drain: Drain,
        user: Option<u32>,
    ) -> ApiAnswer {
        let place = match self.place(user) {
            Ok(place) => place,
            Err(why) => {
                let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, why);
                let headers = answer.headers_mut();
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
                return answer;
            }
        };
        let mut beat = interval(BEAT_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watcher = Watcher {
            newest: self.newest.subscribe(),
            shown: None,
            beat,
            drain,
            _place: place,
        };
        self.write_while_watched(write);
        let events = stream::unfold(watcher, |mut watcher| async {
            let event = watcher.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(event)), watcher))
        });
        let mut answer = Response::new(StreamBody::new(events).boxed());
        let headers = answer.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        answer
    }

    /// Takes a place for a watcher of this user: at most half of those that other users leave. So no user takes all.
    fn place(self: &Arc<Self>, user: Option<u32>) -> Result<WatcherPlace, &'static str> {
        let mut places = self.places.lock();
        let all: usize = places.values().sum();
        if all >= MAX_WATCHERS {
            return Err("all places for open pages are taken: try again later");
        }
        let own = places.entry(user).or_default();
        let left = MAX_WATCHERS - (all - *own);
        if *own >= left.div_ceil(2) {
            places.retain(|_, own| *own > 0);
            return Err("this user has as many pages open as it may: close one of them");
        }
        *own += 1;
        drop(places);
        Ok(WatcherPlace {
            watchers: Arc::clone(self),
            user,
        })
    }

    /// Starts the task that writes the parts, unless it runs.
    fn write_while_watched(self: &Arc<Self>, write: impl Fn() -> Parts + Send + 'static) {
        let mut is_written = self.is_written.lock();
        if std::mem::replace(&mut *is_written, true) {
            return;
        }
        // The parts of the last time when someone watched are old.
        self.publish(write());
        drop(is_written);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WRITE_INTERVAL).await;
                let mut is_written = this.is_written.lock();
                if this.newest.receiver_count() == 0 {
                    *is_written = false;
                    return;
                }
                drop(is_written);
                this.publish(write());
            }
        });
    }

    /// Sends these parts to all watchers, if they are new.
    fn publish(&self, parts: Parts) {
        self.newest.send_if_modified(|newest| {
            let changes = newest.number == 0 || newest.parts != parts;
            if changes {
                *newest = Arc::new(newest.next(parts));
            }
            changes
        });
    }
}

impl Drop for WatcherPlace {
    fn drop(&mut self) {
        let mut places = self.watchers.places.lock();
        if let Some(own) = places.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                places.remove(&self.user);
            }
        }
    }
}

impl Edition {
    fn next(&self, parts: Parts) -> Self {
        Self {
            number: self.number + 1,
            change: event(&parts, |part| part(&self.parts) != part(&parts)),
            whole: event(&parts, |_| true),
            parts,
        }
    }
}

impl Watcher {
    /// The next event; `None` when the proxy stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let newest = Arc::clone(&self.newest.borrow_and_update());
            if self.shown != Some(newest.number) {
                let has_last = self.shown.is_some_and(|shown| shown + 1 == newest.number);
                self.shown = Some(newest.number);
                let event = if has_last {
                    &newest.change
                } else {
                    &newest.whole
                };
                return Some(event.clone());
            }
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                _ = self.beat.tick() => return Some(Bytes::from_static(b": still here\n\n")),
                () = self.drain.begun() => return None,
            }
        }
    }
}

/// An event with the parts that are sent.
fn event(parts: &Parts, is_sent: impl Fn(fn(&Parts) -> &str) -> bool) -> Bytes {
    let mut sent = Map::new();
    for (id, part) in Parts::BY_ID {
        if is_sent(part) {
            sent.insert(id.to_owned(), Value::from(part(parts)));
        }
    }
    // JSON has no line ends, which would end the field.
    format!("retry: 1000\ndata: {}\n\n", Value::Object(sent)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn parts(state: &str) -> Parts {
        Parts {
            state: state.to_owned(),
            ..Parts::default()
        }
    }

    async fn read(answer: &mut ApiAnswer) -> Bytes {
        loop {
            let frame = answer.body_mut().frame().await.expect("a frame");
            let data = frame.expect("no error").into_data().expect("data");
            if !data.starts_with(b":") {
                return data;
            }
        }
    }

    /// Watchers whose parts have the number of the times that they were written.
    fn counted() -> (Arc<Watchers>, impl Fn(Option<u32>) -> ApiAnswer) {
        let (watchers, written) = (Watchers::new(), Arc::new(AtomicUsize::new(0)));
        let (these, drain) = (Arc::clone(&watchers), Drain::new());
        let watch = move |user| {
            let written = Arc::clone(&written);
            let write = move || {
                let number = written.fetch_add(1, Ordering::Relaxed);
                parts(&format!("a\n{number}"))
            };
            these.watch(write, drain.clone(), user)
        };
        (watchers, watch)
    }

    const WHOLE: &str =
        "retry: 1000\ndata: {\"state\":\"a\\n0\",\"blocked\":\"\",\"sessions\":\"\"}\n\n";

    #[tokio::test(start_paused = true)]
    async fn o3_a_watcher_gets_all_parts_and_then_the_changed_ones_in_one_line_of_data() {
        let (_watchers, watch) = counted();
        let mut answer = watch(None);
        assert_eq!(read(&mut answer).await, WHOLE);
        let change = "retry: 1000\ndata: {\"state\":\"a\\n1\"}\n\n";
        assert_eq!(read(&mut answer).await, change);
        // Who comes later gets everything.
        assert_eq!(read(&mut watch(None)).await, WHOLE.replace("n0", "n1"));
    }

    #[tokio::test(start_paused = true)]
    async fn o3_the_first_event_after_a_time_without_watchers_is_new() {
        let (_watchers, watch) = counted();
        let mut first = watch(None);
        assert_eq!(read(&mut first).await, WHOLE);
        drop(first);
        tokio::time::sleep(WRITE_INTERVAL * 9).await;
        let event = read(&mut watch(None)).await;
        assert_eq!(event, WHOLE.replace("n0", "n1"));
    }

    #[tokio::test(start_paused = true)]
    async fn o3_all_watchers_get_the_same_bytes() {
        let (_watchers, watch) = counted();
        let (mut one, mut other) = (watch(None), watch(Some(7)));
        for _ in 0..3 {
            let (one, other) = (read(&mut one).await, read(&mut other).await);
            assert_eq!(one.as_ptr(), other.as_ptr());
        }
    }

    #[tokio::test]
    async fn o3_watchers_are_limited_and_make_room_when_they_go() {
        let (watchers, watch) = counted();
        let open = |user: Option<u32>, count: usize| -> Vec<_> {
            let answers = (0..count).map(|_| watch(user));
            answers
                .filter(|answer| answer.status() == StatusCode::OK)
                .collect()
        };
        // Each user gets half of what the others leave.
        let mut one = open(Some(1), MAX_WATCHERS);
        assert_eq!(one.len(), MAX_WATCHERS / 2);
        let other = open(None, MAX_WATCHERS);
        assert_eq!(other.len(), MAX_WATCHERS / 4);
        let mut refused = watch(Some(1));
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let why = read(&mut refused).await;
        assert!(
            why.starts_with(b"this user has as many pages open"),
            "{why:?}"
        );
        // The share has become smaller, since others came.
        one.truncate(MAX_WATCHERS * 3 / 8 - 1);
        assert_eq!(open(Some(1), 2).len(), 1);
        let rest: Vec<_> = (10..20)
            .flat_map(|user| open(Some(user), MAX_WATCHERS))
            .collect();
        assert_eq!(one.len() + other.len() + rest.len(), MAX_WATCHERS);
        let mut refused = watch(Some(100));
        let why = read(&mut refused).await;
        assert!(
            why.starts_with(b"all places for open pages are taken"),
            "{why:?}"
        );
        drop((one, other, rest));
        assert!(watchers.places.lock().values().all(|own| *own == 0));
    }
}
