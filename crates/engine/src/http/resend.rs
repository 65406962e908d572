//! Requests that are sent once more: those that the origin has not processed (RFC 9113 section 8.7), and
//! those that it may process twice (RFC 9110 section 9.2.2).

use http::request::Parts;
use http::{Method, Request};

use super::request_body::{Original, RequestBody, Resendable};
use crate::tls::Wire;

/// The parts of a request that are kept to send it once more.
pub(super) enum Spare {
    /// The request cannot be sent again.
    Nothing,
    /// The request has no content.
    Whole(Parts),
    /// The content can be taken back while it is remembered.
    Remembered(Parts, Original),
}

impl Spare {
    /// Over HTTP/2 an origin may report that it has not processed a request. Over HTTP/1 it cannot.
    pub(super) fn of(parts: &Parts, body: RequestBody, wire: Wire) -> (Self, RequestBody) {
        let may_be_refused = wire == Wire::TlsHttp2;
        match body {
            RequestBody::Empty(_) if may_be_refused || is_idempotent(&parts.method) => {
                (Self::Whole(parts.clone()), body)
            }
            RequestBody::Empty(_) => (Self::Nothing, body),
            body if may_be_refused => {
                let (body, original) = Resendable::new(body);
                let spare = Self::Remembered(parts.clone(), original);
                (spare, RequestBody::Resendable(body))
            }
            body => (Self::Nothing, body),
        }
    }

    /// The request once more, after the origin has not processed it.
    pub(super) fn again(&self) -> Option<Request<RequestBody>> {
        let (parts, body) = match self {
            Self::Nothing => return None,
            Self::Whole(parts) => (parts, RequestBody::empty()),
            Self::Remembered(parts, original) => {
                (parts, RequestBody::Resendable(original.again()?))
            }
        };
        Some(Request::from_parts(parts.clone(), body))
    }

    /// Whether [`if_idempotent`](Self::if_idempotent) gives a request.
    pub(super) fn is_idempotent(&self) -> bool {
        matches!(self, Self::Whole(parts) if is_idempotent(&parts.method))
    }

    /// The request once more, if it has no content and its method is idempotent. For other methods RFC 9112
    /// section 9.3.1 forbids a proxy to send a request again.
    pub(super) fn if_idempotent(&self) -> Option<Request<RequestBody>> {
        match self {
            Self::Whole(parts) if is_idempotent(&parts.method) => self.again(),
            Self::Nothing | Self::Whole(_) | Self::Remembered(..) => None,
        }
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}
