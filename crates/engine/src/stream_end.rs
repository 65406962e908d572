//! How a stream ended, with or without TLS, as its error shows.

use std::io;

use rustls::AlertDescription;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// An orderly close, with or without the `close_notify` that TLS requires.
    Closed,
    /// A TCP reset.
    Reset,
    /// A TLS alert.
    Alert(AlertDescription),
    /// Bytes that violate TLS.
    BadTls,
    /// Any other failure.
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
