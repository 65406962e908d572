//! `x-unix-socket`: the path of the unix socket that a plain request is for (SPEC H10).
//!
//! The path and query of the request-target go to the program behind the socket, and its host as
//! `Host`. The host is not looked up.

use std::sync::Arc;

use codex_network_policy::HttpHead;
use http::{HeaderMap, HeaderName};
use nix::libc;

use crate::client::Client;
use crate::enforce::Enforcer;
use crate::enforce::unix_socket::{ClaimError, SocketPermit};
use crate::live_policy::Generation;
use crate::socket_file::SocketLookup;
use crate::upstream::UpstreamError;

const FIELD: HeaderName = HeaderName::from_static("x-unix-socket");

/// The longest path that a system call takes, without its final NUL.
const MAX_LENGTH: usize = libc::PATH_MAX.unsigned_abs() as usize - 1;

/// Why the field cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SocketFieldError {
    #[error("the request has more than one x-unix-socket field")]
    Repeated,
    #[error("the x-unix-socket field is empty: it takes the absolute path of a socket")]
    Empty,
    #[error("the path in the x-unix-socket field is longer than {MAX_LENGTH} bytes")]
    TooLong,
}

/// The path that a request names, if it names one.
pub(super) fn path(headers: &HeaderMap) -> Result<Option<&[u8]>, SocketFieldError> {
    let mut fields = headers.get_all(FIELD).iter();
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(SocketFieldError::Repeated);
    }
    // No field value holds NUL (RFC 9110 section 5.5), which would end a path.
    match field.as_bytes() {
        [] => Err(SocketFieldError::Empty),
        path if path.len() > MAX_LENGTH => Err(SocketFieldError::TooLong),
        path => Ok(Some(path)),
    }
}

/// Judges a request to a unix socket: first the path, then the file that it leads to.
pub(super) async fn authorize(
    enforcer: &Enforcer,
    generation: Arc<Generation>,
    client: Client,
    head: HttpHead<'static>,
    path: &[u8],
) -> Result<SocketPermit, UpstreamError> {
    let claim = enforcer.judge_unix_socket(generation, client, head, path)?;
    let limit = claim.generation().settings().daemon.limits.connect_timeout;
    let lookup = SocketLookup::within(limit, claim.path().clone(), claim.entries()).await;
    claim.vet(lookup).map_err(|error| match error {
        ClaimError::Refused(refusal) => refusal.into(),
        ClaimError::Unusable(error, flow) => {
            let error = UpstreamError::UnixSocket(error);
            flow.end(error.ending());
            error
        }
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn h10_the_field_is_there_once_and_holds_a_path() {
        let long = "/".repeat(MAX_LENGTH);
        let too_long = "/".repeat(MAX_LENGTH + 1);
        for (fields, wanted) in [
            (&[][..], Ok(None)),
            (&["/run/a.sock"], Ok(Some("/run/a.sock"))),
            (&["relative"], Ok(Some("relative"))),
            (&[long.as_str()], Ok(Some(long.as_str()))),
            (&[too_long.as_str()], Err(SocketFieldError::TooLong)),
            (&[""], Err(SocketFieldError::Empty)),
            (
                &["/run/a.sock", "/run/a.sock"],
                Err(SocketFieldError::Repeated),
            ),
            (&["", "/run/a.sock"], Err(SocketFieldError::Repeated)),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                let value = HeaderValue::from_str(field).expect("a field value");
                headers.append("X-Unix-Socket", value);
            }
            let wanted = wanted.map(|path| path.map(str::as_bytes));
            assert_eq!(path(&headers), wanted, "{fields:?}");
        }
    }
}
