//! Entries in the journal from a confined worker, over a socket that is connected once and only
//! written to.
//!
//! `tracing-journald` names the destination with each datagram. A socket that can do that reaches
//! every unix datagram service of the machine, and so would an attacker who took over the worker
//! (`worker/sandbox`). So the worker writes the same entries itself.
//!
//! The format is <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>: an entry is a datagram, so each entry is
//! a `send`. `sendmmsg` would send several at once, but it can also pass descriptors on, and the worker's
//! seccomp filter therefore refuses it. Writing waits while the journal is stuck, on the [`Outlet`]'s
//! thread.
//!
//! [`Outlet`]: super::super::outlet::Outlet

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::Level;

use crate::logging::captured::Captured;

/// The connection to the journal.
pub(in crate::logging) struct Connected {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Connected {
    /// Opens the connection to the journal. Call it before the process is confined.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no journal.
    pub(in crate::logging) fn open() -> io::Result<Self> {
        Self::open_at(Path::new(super::JOURNAL))
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self {
            path: path.to_owned(),
            socket,
        })
    }

    /// The descriptor of the socket, which is only written to.
    pub(in crate::logging) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Writes an entry, however long that takes.
    ///
    /// # Errors
    ///
    /// Returns an error if the journal is gone. If its socket was made anew, only the monitor can
    /// connect to it. A confined worker may not connect, so its entries are lost until the next
    /// worker.
    pub(in crate::logging) fn write(&self, event: &Captured) -> io::Result<()> {
        let entry = entry(event);
        match self.socket.send(&entry) {
            Err(error) if is_cut_off(&error) => {
                self.socket.connect(&self.path)?;
                self.socket.send(&entry)?;
            }
            sent => drop(sent?),
        }
        Ok(())
    }
}

/// Whether no process holds the other end of the socket any more.
fn is_cut_off(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotConnected};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | NotConnected
    )
}

/// An event in the journal's format, with its message as text.
fn entry(event: &Captured) -> Vec<u8> {
    let metadata = event.metadata();
    let mut entry = Vec::with_capacity(512);
    put(&mut entry, "PRIORITY", priority(*metadata.level()));
    put(&mut entry, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    put(&mut entry, "TARGET", metadata.target());
    if let Some(file) = metadata.file() {
        put(&mut entry, "CODE_FILE", file);
    }
    if let Some(line) = metadata.line() {
        put(&mut entry, "CODE_LINE", &line.to_string());
    }
    let words = event.in_words();
    for (name, text) in event.fields() {
        let words = words.as_deref().filter(|_| name == "message");
        put(&mut entry, &name_of(name), words.unwrap_or(text));
    }
    entry
}

/// A priority as `syslog(3)` numbers them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

/// A field's name as the journal requires it: capital letters, digits and `_`, and no leading `_`.
fn name_of(field: &str) -> String {
    let name = field.replace('.', "_").to_ascii_uppercase();
    let name = name.trim_start_matches('_').chars();
    name.filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

/// Appends a field with the length of its value, which may hold any bytes.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::logging::journal::notice;

    /// The fields of an entry, read as the journal reads them.
    fn fields(mut entry: &[u8]) -> HashMap<String, String> {
        let mut fields = HashMap::new();
        while !entry.is_empty() {
            let end = entry
                .iter()
                .position(|byte| *byte == b'\n')
                .expect("a name");
            let (name, rest) = entry.split_at(end);
            let (length, rest) = rest[1..].split_first_chunk().expect("a length");
            let length = usize::try_from(u64::from_le_bytes(*length)).expect("it fits");
            let (value, rest) = rest.split_at(length);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            fields.insert(text(name), text(value));
            entry = rest.strip_prefix(b"\n").expect("the end of a field");
        }
        fields
    }

    fn received(socket: &UnixDatagram) -> HashMap<String, String> {
        let mut entry = vec![0; 1 << 16];
        let length = socket.recv(&mut entry).expect("an entry");
        fields(&entry[..length])
    }

    #[test]
    fn r4_an_entry_has_the_fields_of_its_event() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        let way = Connected::open_at(&path).expect("a way");
        way.write(&notice(3)).expect("it is taken");
        let mut fields = received(&journal);
        let file = fields.remove("CODE_FILE").unwrap_or_default();
        assert!(file.ends_with("journal.rs"), "{file}");
        fields.remove("CODE_LINE").expect("a line");
        let expected = [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "codex-network-proxy"),
            ("TARGET", "codex_network_proxy"),
            ("MESSAGE", "3 log lines were lost"),
            ("LOST", "3"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields, HashMap::from(expected));
    }

    #[test]
    fn r4_a_journal_that_was_started_anew_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        let way = Connected::open_at(&path).expect("a way");
        drop(journal);
        way.write(&notice(1)).expect_err("nobody takes it");
        std::fs::remove_file(&path).expect("the test's own socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        way.write(&notice(2)).expect("it is taken");
        assert_eq!(received(&journal)["LOST"], "2");
    }

    #[test]
    fn r4_names_of_fields_are_as_the_journal_takes_them() {
        for (field, name) in [
            ("message", "MESSAGE"),
            ("network.policy.decision", "NETWORK_POLICY_DECISION"),
            ("_trusted", "TRUSTED"),
            ("._trusted", "TRUSTED"),
            ("r#type", "RTYPE"),
        ] {
            assert_eq!(name_of(field), name);
        }
    }
}
