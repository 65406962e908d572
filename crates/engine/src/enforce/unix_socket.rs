//! Unix sockets at the enforcement point: the only place that makes a [`SocketPermit`] (SPEC H10).
//!
//! A request is judged twice. First the policy judges the path that the request names, which gives
//! a [`Claim`]. Then `socket_file` finds the file behind the path, and the policy judges the file.
//! A refused client gets the same answer whether a file exists or not.
//!
//! The decider evaluates hosts only (SPEC P8).

use std::path::PathBuf;
use std::sync::Arc;

use codex_network_policy::{
    Decision, HttpHead, ListedUnixSocket, Reason, UnixSocketList, UnixSocketListener,
    UnixSocketLists, UnixSocketPath, UnixSocketRequest, UnixSocketSupport,
};

use super::flow::Flow;
use super::{Enforcer, Rejudged, detail, on_change};
use crate::approvals::Grant;
use crate::attempt::{Attempt, Destination, DestinationKind, Refusal, UNIX_SOCKET};
use crate::client::Client;
use crate::live_policy::{Generation, GenerationNumber, LivePolicy};
use crate::own::OwnSockets;
use crate::record::Recorder;
use crate::session::SessionNumber;
use crate::socket_file::{SocketError, SocketFile, SocketLookup, path_of};

/// A request may reach the file that its path leads to, if that file is permitted too. Nothing has
/// been recorded yet.
#[derive(Debug)]
pub(crate) struct Claim {
    attempt: Attempt,
    head: HttpHead<'static>,
    path: UnixSocketPath,
    /// The decision on the path, before the file is judged.
    decision: Decision,
    support: UnixSocketSupport,
    generation: Arc<Generation>,
    recorder: Arc<Recorder>,
    own: Arc<OwnSockets>,
}

/// Permission for a request to reach this very file, under this generation of the settings. It has
/// been recorded.
#[derive(Debug)]
pub(crate) struct SocketPermit {
    watched: WatchedSocket,
    socket: SocketFile,
    generation: Arc<Generation>,
    flow: Flow,
}

/// Why a claim gives no permit.
#[derive(Debug)]
pub(crate) enum ClaimError {
    /// The policy refuses the file.
    Refused(Refusal),
    /// The file is permitted, but cannot be used. The caller ends the flow with the error.
    Unusable(SocketError, Flow),
}

/// The part that is judged again when the settings change.
#[derive(Clone, Debug)]
pub(crate) struct WatchedSocket {
    head: HttpHead<'static>,
    path: UnixSocketPath,
    leads_to: UnixSocketPath,
    /// The entries that led to the same file when they were looked at.
    aliases: Vec<UnixSocketPath>,
}

impl Enforcer {
    /// Judges a request to a unix socket by the path that it names.
    pub(crate) fn judge_unix_socket(
        &self,
        generation: Arc<Generation>,
        client: Client,
        head: HttpHead<'static>,
        path: &[u8],
    ) -> Result<Claim, Refusal> {
        let support = self.unix_sockets;
        let path = UnixSocketPath::parse(path).ok();
        let (decision, detail) = decide_path(&generation, &head, support, path.as_ref());
        let attempt = Attempt::http(client, head.clone());
        match path {
            // A path on no list may lead to a file that is on one.
            Some(path) if decision.is_allow() || decision.reason() == Reason::NotAllowed => {
                Ok(Claim {
                    attempt,
                    head,
                    path,
                    decision,
                    support,
                    generation,
                    recorder: Arc::clone(&self.recorder),
                    own: Arc::clone(&self.own),
                })
            }
            _ => Err(refuse(
                &self.recorder,
                &generation,
                &attempt,
                decision,
                detail,
            )),
        }
    }
}

/// The decision on a path alone, before any file is looked at, and the detail of a refusal. `None`
/// stands for a path that is not absolute.
pub(super) fn decide_path(
    generation: &Generation,
    head: &HttpHead<'_>,
    support: UnixSocketSupport,
    path: Option<&UnixSocketPath>,
) -> (Decision, Option<&'static str>) {
    let request = UnixSocketRequest {
        support,
        head,
        path,
        leads_to: None,
        listener: UnixSocketListener::Other,
    };
    let decision = decide(generation, &request, &[]);
    let detail = match path {
        None if decision.reason() == Reason::NotAllowed => Some(RELATIVE),
        _ => detail::of_mode(head, decision),
    };
    (decision, detail)
}

/// The detail of a refusal because the path is not absolute.
pub(crate) const RELATIVE: &str = "relative_path";

impl Claim {
    pub(crate) fn path(&self) -> &UnixSocketPath {
        &self.path
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The allow entries whose files must be compared too; empty where the path itself decides.
    pub(crate) fn entries(&self) -> Vec<UnixSocketPath> {
        let sockets = &self.generation.settings().unix_sockets;
        let allowed = entries(&sockets.allowed).filter(|_| !self.decision.is_allow());
        allowed.chain(entries(&sockets.denied)).collect()
    }

    /// Judges the file that was found, and records the outcome. Only a client that may use the path
    /// learns that the file is missing.
    pub(crate) fn vet(self, lookup: SocketLookup) -> Result<SocketPermit, ClaimError> {
        let Self {
            attempt,
            head,
            path,
            support,
            generation,
            recorder,
            own,
            ..
        } = self;
        let refuse = |decision| refuse(&recorder, &generation, &attempt, decision, None);
        let leads_to = lookup.found.as_ref().ok().map(SocketFile::path);
        let aliases = lookup.aliases;
        let request = UnixSocketRequest {
            support,
            head: &head,
            path: Some(&path),
            leads_to,
            listener: match &lookup.found {
                Ok(socket) if own.unix.has(socket) => UnixSocketListener::ThisProxy,
                _ => UnixSocketListener::Other,
            },
        };
        let decision = decide(&generation, &request, &aliases);
        if !decision.is_allow() {
            return Err(ClaimError::Refused(refuse(decision)));
        }
        let flow = Flow::new(&recorder, &generation, attempt, Destination::UnixSocket);
        flow.allow(&generation, decision);
        let socket = match lookup.found {
            Ok(socket) => socket,
            Err(error) => return Err(ClaimError::Unusable(error, flow)),
        };
        Ok(SocketPermit {
            watched: WatchedSocket {
                head,
                path,
                leads_to: socket.path().clone(),
                aliases,
            },
            socket,
            generation,
            flow,
        })
    }
}

impl SocketPermit {
    /// The session of the client.
    pub(crate) fn session(&self) -> Option<SessionNumber> {
        self.flow.attempt().client.session_number()
    }

    /// The file, and no other.
    pub(crate) fn socket(&self) -> &SocketFile {
        &self.socket
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// The course of the request, for its event.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(crate) fn watched(&self) -> &WatchedSocket {
        &self.watched
    }

    /// Resolves when a change of the settings no longer permits traffic over the socket (SPEC P11).
    pub(crate) async fn forbidden(&self, live: &LivePolicy) -> Reason {
        on_change(live, self).await
    }
}

impl Rejudged<Reason> for &SocketPermit {
    fn number(&self) -> GenerationNumber {
        self.generation.number()
    }

    fn grant(&self) -> Option<&Grant> {
        None
    }

    fn judge(&self, generation: &Generation) -> Option<Reason> {
        let decision = self.watched.judge(generation);
        (!decision.is_allow()).then(|| decision.reason())
    }
}

impl WatchedSocket {
    /// The decision of the policy in force now on a request that an earlier one permitted (SPEC
    /// P11). It records nothing and looks at no file, so a new entry that leads to the file by a
    /// link does not count. The client may send the request again.
    pub(super) fn judge(&self, generation: &Generation) -> Decision {
        let request = UnixSocketRequest {
            // The request was served, so this platform serves unix sockets.
            support: UnixSocketSupport::Served,
            head: &self.head,
            path: Some(&self.path),
            leads_to: Some(&self.leads_to),
            // The connection was checked when it was made.
            listener: UnixSocketListener::Other,
        };
        decide(generation, &request, &self.aliases)
    }
}

/// The decision of the policy. `aliases` are entries that lead to the same file as the path.
fn decide(
    generation: &Generation,
    request: &UnixSocketRequest<'_>,
    aliases: &[UnixSocketPath],
) -> Decision {
    let sockets = &generation.settings().unix_sockets;
    let [allowed, denied] =
        [&sockets.allowed, &sockets.denied].map(|paths| entries(paths).collect::<Vec<_>>());
    let listed = |path| ListedUnixSocket {
        path,
        leads_to: request.leads_to.filter(|_| aliases.contains(path)),
    };
    let allowed: Vec<_> = allowed.iter().map(listed).collect();
    let denied: Vec<_> = denied.iter().map(listed).collect();
    let lists = UnixSocketLists {
        allowed: if sockets.allow_all {
            UnixSocketList::All
        } else {
            UnixSocketList::Only(&allowed)
        },
        denied: &denied,
    };
    generation.policy().decide_unix_socket(request, lists)
}

/// A list. The configuration accepts only absolute paths.
fn entries(paths: &[PathBuf]) -> impl Iterator<Item = UnixSocketPath> {
    paths.iter().map(PathBuf::as_path).filter_map(path_of)
}

fn refuse(
    recorder: &Recorder,
    generation: &Generation,
    attempt: &Attempt,
    decision: Decision,
    detail: Option<&'static str>,
) -> Refusal {
    let refusal = Refusal {
        decision,
        destination: DestinationKind::UnixSocket,
        protocol: attempt.kind.protocol(),
        host: UNIX_SOCKET.to_owned(),
        port: 0,
        detail,
        decider_reason: None,
        credential: None,
        approval: None,
    };
    recorder.refused(generation, attempt, &refusal);
    refusal
}
