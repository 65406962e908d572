//! The daemon's log so far, line by line.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::wait::Watched;

/// One line of a log: JSON of tracing-subscriber, or any other text.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// The raw line.
    pub raw: String,
    json: Option<Value>,
}

impl LogLine {
    fn new(raw: String) -> Self {
        let json = serde_json::from_str(&raw).ok();
        Self { raw, json }
    }

    /// The event's message.
    pub fn message(&self) -> Option<&str> {
        self.field("message")?.as_str()
    }

    /// Whether the event's message has this part.
    pub fn message_contains(&self, part: &str) -> bool {
        self.message().is_some_and(|message| message.contains(part))
    }

    /// Whether the event's message begins like this.
    pub fn message_starts_with(&self, beginning: &str) -> bool {
        self.message()
            .is_some_and(|message| message.starts_with(beginning))
    }

    /// One of the event's fields.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.json.as_ref()?.get("fields")?.get(name)
    }

    /// The listener, if this is the line that names its address.
    pub(super) fn listener(&self) -> Option<&str> {
        (self.message() == Some("listening")).then(|| self.field("listener")?.as_str())?
    }

    /// The outcome, if this is the event at the end of a permitted attempt (SPEC R5).
    pub fn flow(&self) -> Option<&str> {
        (self.target() == Some("codex_network_proxy.flow"))
            .then(|| self.field("network.flow.outcome")?.as_str())?
    }

    /// The text of the cause in such an event.
    pub fn flow_cause(&self) -> Option<&str> {
        self.field("network.flow.cause")?.as_str()
    }

    /// The authority that a decision or its outcome is about.
    pub fn server(&self) -> Option<String> {
        let host = self.field("server.address")?.as_str()?;
        Some(format!("{host}:{}", self.field("server.port")?))
    }

    /// The event's level, such as `INFO`.
    pub fn level(&self) -> Option<&str> {
        self.json.as_ref()?.get("level")?.as_str()
    }

    /// The event's target.
    pub fn target(&self) -> Option<&str> {
        self.json.as_ref()?.get("target")?.as_str()
    }
}

/// A stream of lines that a thread reads to its end.
#[derive(Clone)]
pub(super) struct Log(Arc<Watched<Lines>>);

#[derive(Default)]
struct Lines {
    lines: Vec<LogLine>,
    ended: bool,
}

impl Log {
    pub(super) fn read(stream: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let watched = Arc::clone(&log.0);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|count| count > 0)
            {
                let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                watched.update(|log| log.lines.push(LogLine::new(text)));
                line.clear();
            }
            watched.update(|log| log.ended = true);
        });
        log
    }

    pub(super) fn lines(&self) -> Vec<LogLine> {
        self.0.lock().lines.clone()
    }

    /// Waits for a line; `None` when the log ended or the deadline passed first.
    pub(super) fn wait_for(
        &self,
        timeout: Duration,
        mut look: impl FnMut(&LogLine) -> bool,
    ) -> Option<LogLine> {
        self.0.wait(timeout, |log| {
            let line = log.lines.iter().find(|line| look(line)).cloned();
            (line.is_some() || log.ended).then_some(line)
        })?
    }

    /// Waits until every writer of the log is gone.
    pub(super) fn wait_for_end(&self, timeout: Duration) {
        self.0.wait(timeout, |log| log.ended.then_some(()));
    }

    pub(super) fn text(&self) -> String {
        let raw = |line: &LogLine| line.raw.clone();
        self.lines().iter().map(raw).collect::<Vec<_>>().join("\n")
    }
}
