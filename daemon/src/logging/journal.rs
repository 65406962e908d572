//! Entries in the journal, with an event's fields as the journal's own, so that
//! `journalctl FIELD=value` finds them (SPEC R4).
//!
//! `tracing-journald` makes and sends them, and waits while the journal is stuck. So it is not a
//! layer of the process's subscriber: it has one of its own, to which the [`Outlet`]'s thread
//! replays what was logged.
//!
//! A confined worker has [`Connected`] in its place.
//!
//! [`Outlet`]: super::outlet::Outlet

mod connected;

use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::{Level, Metadata};
use tracing_core::callsite::DefaultCallsite;
use tracing_core::{Kind, metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};

use super::captured::Captured;
pub(super) use connected::Connected;

/// Where the journal takes entries.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The way to the journal.
pub(super) struct Journal {
    /// Asked directly and never made a default: as one it would count in every thread, and it is
    /// interested in everything.
    subscriber: Layered<tracing_journald::Layer, Registry>,
    /// Asks whether there is a journal: `tracing-journald` keeps to itself that it could not send.
    knock: UnixDatagram,
}

impl Journal {
    /// Opens the way to the journal. To be called before the process is confined.
    ///
    /// # Errors
    ///
    /// When there is none.
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
    /// When there is no journal any more.
    pub(super) fn write(&self, event: &Captured) -> io::Result<()> {
        // Sends nothing and waits for nobody: the kernel looks whether somebody has the socket open.
        self.knock.connect(JOURNAL)?;
        event.replay(&self.subscriber, event.in_words().as_deref());
        Ok(())
    }
}

/// The event that says that others were lost. It is made by hand, since it takes the place of those in
/// the queue, whatever the filter says.
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
