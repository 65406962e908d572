//! The usual beginning of a test: a daemon, an origin behind it, and clients that reach the origin
//! through the daemon.
//!
//! [`PlainSetup`] is for plain HTTP and for tunnels whose content the daemon does not read;
//! [`TlsSetup`] is for intercepted TLS, and [`RawTlsSetup`] for intercepted TLS with an origin that the
//! test plays itself.

mod plain;
mod tls;

pub use self::plain::PlainSetup;
pub use self::tls::{RawTlsSetup, TlsSetup};
