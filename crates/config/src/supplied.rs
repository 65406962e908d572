//! The data that a process was given besides its configuration. No configuration sets it: the process that reads
//! the environment, the system's files and the CA does.

use std::path::PathBuf;
use std::sync::Arc;

use crate::credentials::CredentialReadings;
use crate::upstream_proxy::UpstreamProxies;

/// Everything that a proxy needs besides its [`Settings`](crate::Settings). The default is no upstream
/// proxy, no CA, no roots and no credentials, and files that the engine reads itself.
#[derive(Clone, Debug, Default)]
pub struct Supplied {
    /// The proxies of the environment (SPEC H12). They are used if the settings allow it.
    pub upstream_proxies: Arc<UpstreamProxies>,
    /// The files of the system, with the CA.
    pub files: SystemFiles,
    /// The values of credentials that the launchers of sessions do not give (SPEC B13).
    pub credentials: CredentialReadings,
}

/// The contents of the files that resolving names needs; `None` means that they must be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverFiles {
    /// The hosts file.
    pub hosts: Option<Arc<str>>,
    /// The system's DNS configuration (`resolv.conf(5)`).
    pub resolv_conf: Option<Arc<str>>,
}

/// The files of the system that serving needs besides the configuration. They change at run time, and
/// are followed without a reload (SPEC L14).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemFiles {
    /// The files that resolving names needs.
    pub resolver: ResolverFiles,
    /// The public facts about the CA in force, whose bundle holds the roots. The key stays with the
    /// process that issues leaves.
    pub ca: Option<Arc<CaCertificate>>,
    /// The certificates (DER) that upstreams are verified against, never our own CA (SPEC M6).
    pub roots: Arc<[Arc<[u8]>]>,
}

/// The public facts about the CA (SPEC M5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaCertificate {
    /// The certificate.
    pub der: Arc<[u8]>,
    /// Where it is kept; `None` when it was made at the start and ends with the process.
    pub kept_at: Option<PathBuf>,
    /// The public file with the certificate; `None` when it could not be written.
    pub certificate_file: Option<PathBuf>,
    /// The public file with the system's roots and the certificate.
    pub bundle_file: Option<PathBuf>,
}
