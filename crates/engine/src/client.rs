//! A client: its address, and the attempt that it belongs to (SPEC H11).

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::owner::ConnectionHandle;
use crate::session::{Session, SessionNumber};

/// The user name that carries an attempt id starts with this.
const ATTEMPT_PREFIX: &str = "codex-net-attempt-";
/// Longest attempt id. The id is part of every record of the connection.
const MAX_ATTEMPT: usize = 128;

/// A client, for decisions and records.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The other end of the connection.
    pub(crate) address: SocketAddr,
    /// The attempt that the client's environment was made for, if the client sent its id.
    pub(crate) attempt: Option<AttemptId>,
    /// The connection that limits count.
    pub(crate) connection: ConnectionHandle,
}

/// Marks the requests of one attempt. It is neither a secret nor a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttemptId(Arc<str>);

impl Client {
    /// The client of a hypothetical request.
    pub(crate) fn unconnected() -> Self {
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            address,
            attempt: None,
            connection: ConnectionHandle::new(address, address),
        }
    }
}

impl Client {
    /// The session whose door the client came to.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.connection.session()
    }

    /// The number of this session.
    pub(crate) fn session_number(&self) -> Option<SessionNumber> {
        self.session().map(|session| session.number())
    }
}

impl AttemptId {
    /// Reads the id out of a proxy user name. Other names are credentials for another proxy and are
    /// ignored.
    pub(crate) fn from_user_name(name: &[u8]) -> Option<Self> {
        Self::new(
            std::str::from_utf8(name)
                .ok()?
                .strip_prefix(ATTEMPT_PREFIX)?,
        )
    }

    /// An id that may stand in a user name and in every record.
    pub(crate) fn new(id: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (!id.is_empty() && id.len() <= MAX_ATTEMPT && id.bytes().all(plain))
            .then(|| Self(Arc::from(id)))
    }

    /// Reads the id out of a `Proxy-Authorization` field (Basic, RFC 7617).
    pub(crate) fn from_credentials(field: &[u8]) -> Option<Self> {
        let field = std::str::from_utf8(field).ok()?;
        let (scheme, token) = field.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(token.trim()).ok()?;
        let name = decoded.split(|byte| *byte == b':').next()?;
        Self::from_user_name(name)
    }

    /// The proxy user name that carries it.
    pub(crate) fn user_name(&self) -> String {
        format!("{ATTEMPT_PREFIX}{}", self.0)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text of the id. Records share it.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h11_an_attempt_id_is_read_from_either_door() {
        let wanted = Some(AttemptId(Arc::from("a1.B-2_c")));
        assert_eq!(
            AttemptId::from_user_name(b"codex-net-attempt-a1.B-2_c"),
            wanted
        );
        let basic = format!(
            "basic {}",
            STANDARD.encode("codex-net-attempt-a1.B-2_c:ignored")
        );
        assert_eq!(AttemptId::from_credentials(basic.as_bytes()), wanted);
    }

    #[test]
    fn h11_other_credentials_are_ignored() {
        for name in [
            "",
            "alice",
            "codex-net-attempt-",
            "codex-net-attempt-a b",
            "codex-net-attempt-\u{e9}",
        ] {
            assert_eq!(AttemptId::from_user_name(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(AttemptId::from_user_name(&[0xff; 40]), None);
        for field in [
            "Basic",
            "Basic !!!",
            "Bearer codex-net-attempt-x",
            "Digest username=x",
        ] {
            assert_eq!(
                AttemptId::from_credentials(field.as_bytes()),
                None,
                "{field:?}"
            );
        }
        let long = format!("codex-net-attempt-{}", "x".repeat(MAX_ATTEMPT + 1));
        assert_eq!(AttemptId::from_user_name(long.as_bytes()), None);
    }
}
