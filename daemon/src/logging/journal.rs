//! Entries in the journal's native protocol: an event's fields as the journal's own, so that
//! `journalctl FIELD=value` finds them (SPEC R4).
//!
//! The format is that of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. Writing is the
//! [`Outlet`]'s: a journal that is stuck takes no datagrams, and would hold whoever sends up, which
//! is why this is no ready-made layer (`tracing-journald` sends on the thread that logs).

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::outlet::{Outlet, Sink};

/// Where the journal takes entries.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Longest value: a few of them fit into one datagram, and a longer one is cut.
const LONGEST_VALUE: usize = 32 * 1024;

/// Turns events into entries.
pub(super) struct Journal(pub(super) Arc<Outlet>);

/// Opens the way to the journal.
///
/// # Errors
///
/// When there is none.
pub(super) fn open() -> io::Result<Sink> {
    let socket = UnixDatagram::unbound()?;
    // The journal ignores it, and without a journal there is an error.
    socket.send_to(&[], JOURNAL)?;
    Ok(Sink::Journal(socket, JOURNAL))
}

/// The entry that says that others were lost.
pub(super) fn notice(lost: u64) -> Vec<u8> {
    let mut entry = Entry::new(Level::WARN);
    entry.put("MESSAGE", &super::said(lost));
    entry.put("LOST", &lost.to_string());
    entry.0
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::new(*metadata.level());
        entry.put("TARGET", metadata.target());
        if let Some(file) = metadata.file() {
            entry.put("CODE_FILE", file);
        }
        if let Some(line) = metadata.line() {
            entry.put("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        self.0.push(&entry.0);
    }
}

/// An entry that is being put together.
struct Entry(Vec<u8>);

impl Entry {
    fn new(level: Level) -> Self {
        // `syslog(3)`: 3 error, 4 warning, 5 notice, 6 info, 7 debug.
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "5",
            Level::DEBUG => "6",
            Level::TRACE => "7",
        };
        let mut entry = Self(Vec::with_capacity(512));
        entry.put("PRIORITY", priority);
        entry.put("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
        entry
    }

    /// Appends a field in the form that takes any value: name, line feed, length, value, line feed.
    fn put(&mut self, name: &str, value: &str) {
        let end = (0..=value.len().min(LONGEST_VALUE))
            .rev()
            .find(|end| value.is_char_boundary(*end));
        let value = &value.as_bytes()[..end.unwrap_or(0)];
        self.0.extend(journal_name(name));
        self.0.push(b'\n');
        self.0.extend((value.len() as u64).to_le_bytes());
        self.0.extend(value);
        self.0.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a string fails only if the value itself does, and then there is the rest.
        let _ = write!(text, "{value:?}");
        self.put(field.name(), &text);
    }
}

/// A name as the journal takes it: capitals, digits and underscores, with no underscore in front.
fn journal_name(name: &str) -> impl Iterator<Item = u8> {
    name.bytes()
        .map(|byte| if byte == b'.' { b'_' } else { byte })
        .skip_while(|byte| *byte == b'_')
        .filter(|byte| *byte == b'_' || byte.is_ascii_alphanumeric())
        .map(|byte| byte.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_an_entry_has_its_fields_with_their_lengths() {
        let mut entry = Entry(Vec::new());
        entry.put("event.name", "a\nb");
        assert_eq!(entry.0, b"EVENT_NAME\n\x03\0\0\0\0\0\0\0a\nb\n");
    }

    #[test]
    fn r4_a_value_that_is_too_long_is_cut_between_characters() {
        let mut entry = Entry(Vec::new());
        entry.put("X", &"\u{20ac}".repeat(LONGEST_VALUE));
        let value = &entry.0[2 + 8..entry.0.len() - 1];
        assert!(value.len() <= LONGEST_VALUE && value.len() > LONGEST_VALUE - 3);
        assert!(std::str::from_utf8(value).is_ok());
    }
}
