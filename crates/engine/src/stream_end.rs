//! How a stream ended, with or without TLS, as its error shows.

use std::io;

use rustls::AlertDescription;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// In order, or without the `close_notify` that TLS requires.
    Closed,
    /// With a reset.
    Reset,
    /// With a TLS alert.
    Alert(AlertDescription),
    /// With a violation of TLS.
    BadTls,
    /// In another way.
    Broken,
}

impl StreamEnd {
    /// How a stream with this error ended.
    pub(crate) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref();
        match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => return Self::Alert(*alert),
            Some(_) => return Self::BadTls,
            None => {}
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Broken,
        }
    }
}
