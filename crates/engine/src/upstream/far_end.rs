//! The far end of a connection: the peer that reads its requests, and why a request has no answer of
//! it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Request;

use super::answer_error::{AnswerError, Answerer, BrokenAnswer, loggable};
use super::connection::Connection;
use super::cut::Cut;
use super::evidence::Evidence;
use super::proxy::AbsoluteForm;
use crate::enforce::LeadsTo;
use crate::incoming::BodyError;

/// How long a connection is kept without a request, if its origin names no shorter time. Most origins
/// close idle connections after 60 seconds or more. The pool closes them earlier, so that no request meets
/// the origin's close.
const KEEP_MILLIS: u64 = 50_000;

/// The peer that reads the requests on a connection, and the addresses that it may lead to.
#[derive(Clone, Debug)]
pub(super) struct FarEnd(Arc<Far>);

#[derive(Debug)]
struct Far {
    leads_to: LeadsTo,
    /// The address at the other end of the connection; `None` for a unix socket.
    peer: Option<SocketAddr>,
    /// Set if an upstream proxy reads the requests; `None` if the origin does.
    proxy: Option<AbsoluteForm>,
    answerer: Answerer,
    evidence: Evidence,
    cut: Cut,
    /// The origin accepts no further request over this HTTP/2 connection (RFC 9113 section 6.8).
    going_away: AtomicBool,
    /// How long the connection may wait for a request, in milliseconds.
    keep: AtomicU64,
}

/// Why a request has no answer.
pub(crate) enum Unanswered<B> {
    /// It was not sent, since the connection has ended. The request is returned if that is possible.
    Unsent(Option<Box<Request<B>>>, BrokenAnswer),
    /// The origin reported that it has not processed it.
    Unprocessed(h2::Error),
    /// Its content broke off.
    Content(BodyError),
    /// The origin's answer cannot be used.
    Broken(BrokenAnswer),
}

impl FarEnd {
    /// The origin, even if an upstream proxy tunnels the bytes.
    pub(super) fn origin(connection: &Connection) -> Self {
        let leads_to = connection.leads_to().clone();
        Self::new(leads_to, connection.peer(), Answerer::Host, None)
    }

    /// The program behind a unix socket.
    pub(super) fn unix_socket() -> Self {
        Self::new(LeadsTo::nowhere(), None, Answerer::Program, None)
    }

    /// An upstream proxy.
    pub(super) fn proxy(leads_to: LeadsTo, peer: Option<SocketAddr>, form: AbsoluteForm) -> Self {
        Self::new(leads_to, peer, Answerer::UpstreamProxy, Some(form))
    }

    fn new(
        leads_to: LeadsTo,
        peer: Option<SocketAddr>,
        answerer: Answerer,
        proxy: Option<AbsoluteForm>,
    ) -> Self {
        Self(Arc::new(Far {
            leads_to,
            peer,
            proxy,
            answerer,
            evidence: Evidence::default(),
            cut: Cut::default(),
            going_away: AtomicBool::new(false),
            keep: AtomicU64::new(KEEP_MILLIS),
        }))
    }

    /// The addresses that the connection may lead to.
    pub(super) fn leads_to(&self) -> &LeadsTo {
        &self.0.leads_to
    }

    /// The address at the other end of the connection; `None` for a unix socket.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// The party that answers the requests.
    pub(super) fn answerer(&self) -> Answerer {
        self.0.answerer
    }

    /// How long the connection may wait for a request.
    pub(super) fn keep(&self) -> Duration {
        Duration::from_millis(self.0.keep.load(Ordering::Relaxed))
    }

    pub(super) fn keep_for(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.0.keep.store(limit.min(KEEP_MILLIS), Ordering::Relaxed);
    }

    /// Ends the connection if it is an HTTP/1 one.
    pub(super) fn cut(&self) -> Cut {
        self.0.cut.clone()
    }

    /// The observations on the connection so far.
    pub(super) fn evidence(&self) -> &Evidence {
        &self.0.evidence
    }

    /// Why no usable head of an answer arrived.
    pub(super) fn broken_head(&self, error: impl Into<BodyError>) -> BrokenAnswer {
        let error = error.into();
        BrokenAnswer {
            by: self.0.answerer,
            cause: AnswerError::of_head(error.as_ref(), self.evidence()),
            error: Some(loggable(error)),
        }
    }

    /// An answer that can be read but not used.
    pub(super) fn unusable(&self, cause: AnswerError) -> BrokenAnswer {
        BrokenAnswer {
            by: self.0.answerer,
            cause,
            error: None,
        }
    }

    /// Why a request over HTTP/1 has no answer.
    pub(super) fn unanswered<B>(
        &self,
        unsent: Option<Request<B>>,
        error: hyper::Error,
    ) -> Unanswered<B> {
        match unsent {
            Some(request) => Unanswered::Unsent(Some(Box::new(request)), self.broken_head(error)),
            None if error.is_user() => Unanswered::Content(error.into()),
            None => Unanswered::Broken(self.broken_head(error)),
        }
    }

    /// Notes that the origin accepts no further request over the connection.
    pub(super) fn go_away(&self) {
        self.0.going_away.store(true, Ordering::Relaxed);
    }

    /// Whether the origin accepts no further request over the connection.
    pub(super) fn is_going_away(&self) -> bool {
        self.0.going_away.load(Ordering::Relaxed)
    }

    /// Whether this is the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn form(&self) -> Option<&AbsoluteForm> {
        self.0.proxy.as_ref()
    }

    /// Whether each request gets the operator's credentials for an upstream proxy.
    pub(super) fn adds_credentials(&self) -> bool {
        self.form().is_some_and(AbsoluteForm::has_credentials)
    }
}
