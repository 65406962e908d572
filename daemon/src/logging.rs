//! Where messages and records are written: native journal fields under systemd, else lines on
//! standard error, as text or JSON (SPEC R4).
//!
//! Logging never blocks a caller: [`outlet`] says how, and when an entry can be lost.

mod captured;
mod entry;
mod format;
mod journal;
mod outlet;
#[cfg(test)]
mod sample;
mod stderr;

use std::io::{self, IsTerminal as _};
use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use codex_network_config::LogFormat;
/// Formats a duration. The monitor may use it, because it parses nothing.
pub(crate) use codex_network_config::duration_text;
use codex_network_engine::AuditSink;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use self::captured::{Capture, Captured};
use self::entry::{Logged, QueuedAudit};
use self::format::LineFormat;
use self::journal::{Connected, Journal};
use self::outlet::{Entry, OneByOne, Outlet, Sink};
use self::stderr::Lines as StderrLines;
use crate::observation::LogLosses;
use crate::privsep::settled::Lines;

/// How long an ending process waits for the rest of its log to be read.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Flushes the queue of this process.
static FLUSH: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// Returns the losses of the queue of this process.
static LOSSES: OnceLock<Box<dyn Fn() -> LogLosses + Send + Sync>> = OnceLock::new();

/// Whether the process is confined after its logging is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confined {
    /// It may send to every unix socket that its user may use.
    No,
    /// It has only the sockets that it opened before.
    Yes,
}

/// Logging that is set up but not started. Entries wait until then.
#[must_use = "nothing is written before it is started"]
pub(crate) struct Writing {
    start: Box<dyn FnOnce() -> io::Result<()>>,
    socket: Option<RawFd>,
    audit: Arc<dyn AuditSink>,
}

/// Checks `[daemon] log`.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(crate) fn check(filter: &str) -> Result<(), String> {
    match EnvFilter::try_new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "[daemon] log = {filter:?} is neither a level (as \"info\") nor a filter (as \
             \"warn,codex_network_engine=debug\"): {error}"
        )),
    }
}

/// Sets up the monitor's logging, before there are settings. Call it once.
pub(crate) fn init_plain(lines: Lines) -> anyhow::Result<Writing> {
    let format = match lines {
        Lines::Auto => LogFormat::Auto,
        Lines::Journal => LogFormat::Journal,
        Lines::Text => LogFormat::Text,
        Lines::Json => LogFormat::Json,
    };
    init("info", format, Confined::No)
}

/// Whether the events of a place in the code have no bytes that a peer chose. h2 logs the debug data of GOAWAY frames,
/// in which an origin may return the value of a credential.
fn has_no_bytes_of_peers(place: &Metadata<'_>) -> bool {
    let of_h2 = place.target() == "h2" || place.target().starts_with("h2::");
    !of_h2 || *place.level() <= Level::INFO
}

/// Sets up the process's logging. Call it once, before the process is confined: the journal's
/// socket is opened here.
pub(crate) fn init(filter: &str, format: LogFormat, confined: Confined) -> anyhow::Result<Writing> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("[daemon] log = {filter:?} is neither a level nor a filter"))?;
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(has_no_bytes_of_peers));
    let journal = match format {
        LogFormat::Journal => true,
        LogFormat::Auto => stderr_is_the_journal(),
        LogFormat::Text | LogFormat::Json => false,
    };
    let (set, writing) = if journal {
        let unreachable =
            "cannot reach the journal; set [daemon] log_format to \"text\" or \"json\"";
        let outlet = Outlet::new(|lost| Logged::Event(journal::notice(lost)));
        let capture = Capture(Arc::clone(&outlet));
        let writing = match confined {
            Confined::No => {
                let journal = Journal::open().context(unreachable)?;
                let write = move |entry: &Logged<Captured>| {
                    entry.with_captured(|event| journal.write(event))
                };
                Writing::new(outlet, OneByOne(write))
            }
            Confined::Yes => {
                let journal = Connected::open().context(unreachable)?;
                let socket = journal.descriptor();
                let write = move |entry: &Logged<Captured>| {
                    entry.with_captured(|event| journal.write(event))
                };
                let mut writing = Writing::new(outlet, OneByOne(write));
                writing.socket = Some(socket);
                writing
            }
        };
        let set = registry.with(capture).try_init();
        (set, writing)
    } else if format == LogFormat::Json {
        let outlet = Outlet::new(|lost| Logged::Event(json_notice(lost)));
        let lines = fmt::layer().with_writer(Queued(Arc::clone(&outlet)));
        let set = registry.with(lines.json()).try_init();
        let sink = StderrLines::new(LineFormat::Json);
        (set, Writing::new(outlet, sink))
    } else {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let outlet = Outlet::new(|lost| Logged::Event(text_notice(lost)));
        let lines = fmt::layer().with_writer(Queued(Arc::clone(&outlet)));
        let lines = lines.with_ansi(colour).with_target(false);
        let set = registry.with(lines).try_init();
        let format = if colour {
            LineFormat::Coloured
        } else {
            LineFormat::Text
        };
        (set, Writing::new(outlet, StderrLines::new(format)))
    };
    set.map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))?;
    // The default hook writes to standard error and blocks until it is read.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(writing)
}

impl Writing {
    fn new<E: Entry>(outlet: Arc<Outlet<Logged<E>>>, sink: impl Sink<Logged<E>>) -> Self {
        let flushed = Arc::clone(&outlet);
        let losing = Arc::clone(&outlet);
        let audit = Arc::new(QueuedAudit(Arc::clone(&outlet)));
        // It cannot be set yet: logging is set up once.
        let _ = FLUSH.set(Box::new(move || flushed.flush(FLUSH_TIMEOUT)));
        let _ = LOSSES.set(Box::new(move || {
            let losses = losing.losses();
            LogLosses {
                lines: losses.entries,
                last: losses.last,
            }
        }));
        Self {
            start: Box::new(move || outlet.start(sink)),
            socket: None,
            audit,
        }
    }

    /// The socket to the journal, if entries go there. Nothing is read from it.
    pub(crate) fn socket(&self) -> Option<RawFd> {
        self.socket
    }

    /// The sink of audit events, which puts them into the same queue as all other entries.
    pub(crate) fn audit(&self) -> Arc<dyn AuditSink> {
        Arc::clone(&self.audit)
    }

    /// Starts the thread that writes. Call it when the process is confined: a thread that exists
    /// before would not be.
    pub(crate) fn start(self) -> anyhow::Result<()> {
        (self.start)().context("cannot start the thread that writes the log")
    }
}

/// Waits until the log is written, but at most a second. Call it before the process ends.
pub(crate) fn flush() {
    if let Some(flush) = FLUSH.get() {
        flush();
    }
}

/// The lines of this process's log that were lost.
pub(crate) fn losses() -> LogLosses {
    LOSSES.get().map(|losses| losses()).unwrap_or_default()
}

/// Writes one line to standard error after the log, in any format. Gives up after a second when
/// it is not read.
pub(crate) fn last_words(line: &str) {
    flush();
    let outlet = Outlet::new(|lost| Logged::Event(text_notice(lost)));
    outlet.push(Logged::Event(line.as_bytes().to_vec()));
    // Without a thread, a write could block for ever.
    if outlet.start(StderrLines::new(LineFormat::Text)).is_ok() {
        outlet.flush(FLUSH_TIMEOUT);
    }
}

/// Puts formatted lines into the queue. The layer formats each event at once.
struct Queued(Arc<Outlet<Logged<Vec<u8>>>>);

impl<'a> MakeWriter<'a> for Queued {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl io::Write for &Queued {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(Logged::Event(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An audit event for tests.
#[cfg(test)]
pub(crate) fn sample_event() -> codex_network_engine::AuditEvent {
    sample::event(None, "listed.test")
}

/// The sentence about lost entries.
fn said(lost: u64) -> String {
    format!("{lost} log lines were lost")
}

fn text_notice(lost: u64) -> Vec<u8> {
    format!("{}  WARN {}\n", now(), said(lost)).into_bytes()
}

fn json_notice(lost: u64) -> Vec<u8> {
    let (time, message) = (now(), said(lost));
    let target = env!("CARGO_CRATE_NAME");
    format!(
        "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"fields\":{{\"message\":\"{message}\",\"lost\":{lost}}},\
         \"target\":\"{target}\"}}\n"
    )
    .into_bytes()
}

/// The time in the format of the other lines.
fn now() -> String {
    let mut text = String::new();
    // A line without a time is better than none.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Whether standard error goes to the journal. Then native fields say more than lines
/// (`systemd.exec(5)`, `$JOURNAL_STREAM`).
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(io::stderr()).is_ok_and(|stderr| {
        stream.to_str() == Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))
    })
}
