//! The settings of `[daemon.telemetry]` (SPEC O2).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use codex_network_policy::{Authority, HeaderNameText};

use crate::secret::Secret;

/// `[daemon.telemetry]`: the export of audit events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The collector; `None` if nothing is exported.
    pub collector: Option<OtlpCollector>,
    /// The protocol that it speaks.
    pub protocol: OtlpProtocol,
    /// Header fields of each request.
    pub headers: Vec<OtlpHeader>,
    /// The file that they were read from.
    pub headers_file: Option<PathBuf>,
    /// The certificates (DER) that the collector is verified against; `None` for those of the system.
    pub roots: Option<Arc<[Arc<[u8]>]>>,
    /// The file that they were read from.
    pub ca_file: Option<PathBuf>,
}

/// The place of a collector. `Display` writes its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpCollector {
    /// Whether requests are in TLS.
    pub scheme: OtlpScheme,
    /// Its host and port.
    pub authority: Authority,
    /// The path of the URL without a slash at its end; empty if it has none.
    pub path: String,
}

/// Whether requests to a collector are in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpScheme {
    /// They are not.
    Http,
    /// They are.
    Https,
}

/// The protocol of a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protocol Buffers over HTTP/1.1.
    #[default]
    HttpProtobuf,
    /// gRPC.
    Grpc,
}

/// A header field of each request to a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpHeader {
    /// Its name.
    pub name: HeaderNameText,
    /// Its value: printable ASCII.
    pub value: Secret,
}

impl OtlpProtocol {
    /// The words in configurations.
    pub(crate) const WORDS: &[&str] = &["http/protobuf", "grpc"];

    /// The meaning of a word in configurations.
    pub(crate) fn of(word: &str) -> Option<Self> {
        let all = [Self::HttpProtobuf, Self::Grpc];
        all.into_iter().find(|protocol| protocol.as_str() == word)
    }

    /// The word in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpProtobuf => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

impl OtlpScheme {
    /// The scheme of the URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URL without one.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for OtlpCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme,
            authority,
            path,
        } = self;
        write!(f, "{}://{authority}{path}", scheme.as_str())
    }
}
