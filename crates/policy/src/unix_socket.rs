//! Requests to unix sockets: which may be reached, and the order of the checks (SPEC H10).
//!
//! A path is bytes here. The caller inspects the file that it leads to, since that is I/O, and then
//! connects to that same file. Lists of hosts and the decider (SPEC P8) do not apply to sockets,
//! since no host is involved.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::decision::{Decision, Reach, Reason, Source};
use crate::method::Mode;
use crate::policy::Policy;
use crate::request::HttpHead;

/// An absolute path without empty, `.` or `..` segments.
///
/// `..` is resolved in the text, as in a browser's address bar, before any file is inspected.
/// Resolved on the disk, `/any/thing/../../run/x.sock` would reveal to every client whether
/// `/any/thing` exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixSocketPath(Box<[u8]>);

/// The path is relative, so it means another file in another working directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path of a unix socket must be absolute")]
pub struct RelativePath;

/// Whether this platform proxies to unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnixSocketSupport {
    /// The platform does.
    Served,
    /// The platform does not: every such request is refused.
    Unsupported,
}

/// Which unix sockets may be reached.
#[derive(Clone, Copy, Debug)]
pub struct UnixSocketLists<'a> {
    /// The sockets that may be reached.
    pub allowed: UnixSocketList<'a>,
    /// The sockets that may not be reached, even if `allowed` has them.
    pub denied: &'a [ListedUnixSocket<'a>],
}

/// The sockets of a list.
#[derive(Clone, Copy, Debug)]
pub enum UnixSocketList<'a> {
    /// Every socket (`dangerously_allow_all_unix_sockets`).
    All,
    /// Only these sockets.
    Only(&'a [ListedUnixSocket<'a>]),
}

/// An entry of a list.
#[derive(Clone, Copy, Debug)]
pub struct ListedUnixSocket<'a> {
    /// The path as written.
    pub path: &'a UnixSocketPath,
    /// The file that it leads to, with links followed; `None` when the file was not inspected or
    /// does not exist.
    pub leads_to: Option<&'a UnixSocketPath>,
}

/// Which process listens on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnixSocketListener {
    /// This proxy itself (SPEC P6).
    ThisProxy,
    /// Another process, or it is not known yet.
    Other,
}

/// A request to a unix socket, with everything that decides about it.
#[derive(Clone, Copy, Debug)]
pub struct UnixSocketRequest<'a> {
    /// Whether the platform serves unix sockets.
    pub support: UnixSocketSupport,
    /// The head of the HTTP request.
    pub head: &'a HttpHead<'a>,
    /// The requested path; `None` when it is not absolute.
    pub path: Option<&'a UnixSocketPath>,
    /// The file that the path leads to, as for an entry.
    pub leads_to: Option<&'a UnixSocketPath>,
    /// Which process listens on that file.
    pub listener: UnixSocketListener,
}

impl UnixSocketPath {
    /// Reads a path.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not begin with `/`.
    pub fn parse(path: &[u8]) -> Result<Self, RelativePath> {
        let rest = path.strip_prefix(b"/").ok_or(RelativePath)?;
        let mut segments: Vec<&[u8]> = Vec::new();
        for segment in rest.split(|byte| *byte == b'/') {
            match segment {
                b"" | b"." => {}
                // The parent of the root is the root.
                b".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        let mut path = Vec::with_capacity(path.len());
        for segment in segments {
            path.push(b'/');
            path.extend_from_slice(segment);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(Self(path.into_boxed_slice()))
    }

    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Policy {
    /// Judges a request to a unix socket, in the order of SPEC H10: a proxy that is off refuses;
    /// then the mode; then the platform; then a path that is not absolute; then the lists, where
    /// deny wins; then the proxy's own sockets; then a session that is limited to some hosts.
    ///
    /// It may be called without `leads_to`, before files are inspected. The file can turn
    /// [`Reason::NotAllowed`] of an absolute path into a permission, and a permission into a
    /// refusal.
    pub fn decide_unix_socket(
        &self,
        request: &UnixSocketRequest<'_>,
        lists: UnixSocketLists<'_>,
    ) -> Decision {
        if let Some(refused) = self.refuses_everything() {
            return refused;
        }
        if self.mode == Mode::Limited && !request.head.only_reads() {
            return Decision::deny(Source::ModeGuard, Reason::MethodNotAllowed, None);
        }
        if request.support == UnixSocketSupport::Unsupported {
            return Decision::deny(Source::ProxyState, Reason::UnixSocketUnsupported, None);
        }
        let refused_by_session = self.refuses_unix_sockets();
        match request.path {
            Some(path) if has(lists.denied, path, request.leads_to) => {
                Decision::deny(Source::BaselinePolicy, Reason::Denied, None)
            }
            Some(path) if lists.allowed.has(path, request.leads_to) => {
                match (request.listener, refused_by_session) {
                    (UnixSocketListener::ThisProxy, _) => Decision::loop_detected(),
                    (UnixSocketListener::Other, Some(refused)) => refused,
                    (UnixSocketListener::Other, None) => {
                        Decision::allow(Source::BaselinePolicy, None, Reach::Public)
                    }
                }
            }
            _ => Decision::deny(Source::BaselinePolicy, Reason::NotAllowed, None),
        }
    }
}

impl UnixSocketList<'_> {
    fn has(&self, path: &UnixSocketPath, leads_to: Option<&UnixSocketPath>) -> bool {
        match self {
            Self::All => true,
            Self::Only(entries) => has(entries, path, leads_to),
        }
    }
}

/// Whether an entry matches a path, or the file that it leads to.
fn has(
    entries: &[ListedUnixSocket<'_>],
    path: &UnixSocketPath,
    leads_to: Option<&UnixSocketPath>,
) -> bool {
    entries.iter().any(|entry| {
        entry.path == path
            || leads_to.is_some_and(|file| file == entry.path || Some(file) == entry.leads_to)
    })
}
