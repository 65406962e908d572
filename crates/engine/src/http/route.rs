//! The destination of a permitted request: a host or a unix socket. Everything that `exchange` does
//! is the same for both.

use std::fmt;
use std::sync::Arc;

use codex_network_policy::Authority;

use super::request_body::RequestBody;
use crate::attempt::UNIX_SOCKET;
use crate::enforce::unix_socket::SocketPermit;
use crate::enforce::{Flow, LeadsTo, Permit, WatchedAttempt};
use crate::live_policy::Generation;
use crate::tls::Wire;
use crate::upstream::{Lease, Upstream, UpstreamError};

/// A permitted destination.
pub(super) enum Route {
    Host(Permit),
    /// A unix socket, and the authority of the request. Only the program behind the socket reads
    /// the authority.
    UnixSocket(SocketPermit, Authority),
}

impl Route {
    /// The authority that the request names.
    pub(super) fn named(&self) -> &Authority {
        match self {
            Self::Host(permit) => permit.authority(),
            Self::UnixSocket(_, named) => named,
        }
    }

    pub(super) fn generation(&self) -> &Arc<Generation> {
        match self {
            Self::Host(permit) => permit.generation(),
            Self::UnixSocket(permit, _) => permit.generation(),
        }
    }

    /// The course of the request, for its event.
    pub(super) fn flow(&self) -> &Flow {
        match self {
            Self::Host(permit) => permit.flow(),
            Self::UnixSocket(permit, _) => permit.flow(),
        }
    }

    /// The permit, if the destination is a host.
    pub(super) fn host(&self) -> Option<&Permit> {
        match self {
            Self::Host(permit) => Some(permit),
            Self::UnixSocket(..) => None,
        }
    }

    /// The part that is judged again while a request is under way over a connection to these
    /// addresses.
    pub(super) fn watched(&self, leads_to: &LeadsTo) -> WatchedAttempt {
        match self {
            Self::Host(permit) => WatchedAttempt::of(permit, leads_to),
            Self::UnixSocket(permit, _) => WatchedAttempt::UnixSocket(permit.watched().clone()),
        }
    }

    /// A kept connection.
    pub(super) async fn kept(
        &self,
        upstream: &Upstream<RequestBody>,
        wire: Wire,
    ) -> Option<Lease<RequestBody>> {
        match self {
            Self::Host(permit) => upstream.pooled(permit, wire).await,
            Self::UnixSocket(permit, _) => upstream.pooled_unix_socket(permit).await,
        }
    }

    /// A new connection, for requests that do not offer to change protocols outside TLS.
    pub(super) async fn open(
        &self,
        upstream: &Upstream<RequestBody>,
        wire: Wire,
    ) -> Result<Lease<RequestBody>, UpstreamError> {
        match self {
            Self::Host(permit) => upstream.connect_http(permit, wire).await,
            Self::UnixSocket(permit, _) => upstream.connect_unix_socket(permit).await,
        }
    }
}

/// For logs and answers: an authority, or that it is a unix socket.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(permit) => permit.authority().fmt(f),
            Self::UnixSocket(..) => f.write_str(UNIX_SOCKET),
        }
    }
}
