//! The contents of the system's files (SPEC L14): the hosts file, `/etc/resolv.conf`, the CA with the
//! roots, and warnings.

use std::sync::Arc;

use codex_network_config::{ResolverFiles, SystemFiles};

use super::ca_and_roots::CaAndRoots;
use super::lines;
use crate::privsep::system_files::{PARTS, split_blob};

/// The contents for the worker. `None` where a file cannot be used.
#[derive(Debug, Default)]
pub(crate) struct FileContents {
    pub(crate) hosts: Option<Vec<u8>>,
    pub(crate) resolv_conf: Option<Vec<u8>>,
    pub(crate) roots: Option<CaAndRoots>,
    /// Sentences about files that cannot be used.
    pub(crate) warnings: Vec<String>,
}

/// The contents as the worker reads them.
#[derive(Debug)]
pub(crate) struct ReceivedFiles {
    pub(crate) files: SystemFiles,
    pub(crate) warnings: Vec<String>,
}

impl FileContents {
    /// The parts as bytes, in a fixed order.
    pub(crate) fn to_parts(&self) -> [Option<Vec<u8>>; PARTS] {
        [
            self.hosts.clone(),
            self.resolv_conf.clone(),
            self.roots.as_ref().map(CaAndRoots::to_bytes),
            Some(self.warnings.join("\n").into_bytes()),
        ]
    }
}

impl ReceivedFiles {
    /// Reads the parts, which the monitor put together. `None` if they are malformed.
    pub(crate) fn from_blob(blob: &[u8]) -> Option<Self> {
        let [hosts, resolv_conf, roots, warnings] = split_blob(blob).ok()?;
        let roots = CaAndRoots::from_bytes(roots)?;
        let text = |bytes| Some(Arc::from(String::from_utf8_lossy(bytes)));
        Some(Self {
            files: SystemFiles {
                resolver: ResolverFiles {
                    hosts: text(hosts),
                    resolv_conf: text(resolv_conf),
                },
                ca: roots.ca,
                roots: roots.roots,
            },
            warnings: lines(warnings),
        })
    }
}
