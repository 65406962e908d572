//! Entries in the journal, with an event's fields as journal fields, so that `journalctl
//! FIELD=value` finds them (SPEC R4).
//!
//! `tracing-journald` makes and sends them, and blocks while the journal is stuck. So it is not a
//! layer of the process's subscriber, but has a subscriber of its own. The [`Outlet`]'s thread
//! replays the events to it.
//!
//! A confined worker uses [`Connected`] instead.
//!
//! [`Outlet`]: super::outlet::Outlet

mod connected;

use std::io;
use std::os::unix::net::UnixDatagram;

pub(super) use connected::Connected;
use tracing::{Level, Metadata};
use tracing_core::callsite::DefaultCallsite;
use tracing_core::{Kind, metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};

use super::captured::Captured;

/// The journal's socket.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The connection to the journal.
pub(super) struct Journal {
    /// Called directly and never set as a default: a default would count in every thread, and it is
    /// interested in everything.
    subscriber: Layered<tracing_journald::Layer, Registry>,
    /// Checks whether there is a journal: `tracing-journald` does not report a failed send.
    knock: UnixDatagram,
}

impl Journal {
    /// Opens the connection to the journal. Call it before the process is confined.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no journal.
    pub(super) fn open() -> io::Result<Self> {
        let layer = tracing_journald::layer()?
            .with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned())
            .with_field_prefix(None);
        Ok(Self {
            subscriber: tracing_subscriber::registry().with(layer),
            knock: UnixDatagram::unbound()?,
        })
    }

    /// Writes an entry, however long that takes.
    ///
    /// # Errors
    ///
    /// Returns an error if the journal is gone.
    pub(super) fn write(&self, event: &Captured) -> io::Result<()> {
        // Sends nothing and does not block: the kernel checks whether a process has the socket
        // open.
        self.knock.connect(JOURNAL)?;
        event.replay(&self.subscriber, event.in_words().as_deref());
        Ok(())
    }
}

/// The event that says that entries were lost. It is made by hand, since it replaces those in the
/// queue, regardless of the filter.
pub(super) fn notice(lost: u64) -> Captured {
    static CALLSITE: DefaultCallsite = DefaultCallsite::new(&LOST);
    static LOST: Metadata<'static> = metadata! {
        name: "lost",
        target: env!("CARGO_CRATE_NAME"),
        level: Level::WARN,
        fields: &["message", "lost"],
        callsite: &CALLSITE,
        kind: Kind::EVENT,
    };
    let mut event = Captured::new(&LOST);
    let mut fields = LOST.fields().iter();
    for text in [super::said(lost), lost.to_string()] {
        if let Some(field) = fields.next() {
            event.put(&field, format_args!("{text}"));
        }
    }
    event
}
