//! Tells a client that believes it is connected why it is not (SPEC T3).

use std::time::Duration;

use bytes::BytesMut;
use codex_network_policy::Authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::attempt::Refusal;
use crate::client_protocol::ClientProtocol;
use crate::linger::linger;
use crate::mitm::plain_http;
use crate::respond::{self, RefusalFormat, TlsAlert};
use crate::upstream::UpstreamError;

/// How long a refused client may take to show its protocol. A client whose server speaks first shows none.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);

/// The protocol that a client's first bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstProtocol {
    Http,
    Tls,
    Other,
}

/// Answers a refused client: `403`, a TLS alert, or a reset.
pub(super) async fn refuse(mut stream: TcpStream, refusal: &Refusal) {
    let answer = match first_protocol(&mut stream).await {
        FirstProtocol::Http => {
            let refused = respond::refusal(refusal, RefusalFormat::Json);
            respond::message(&respond::closing(refused))
        }
        FirstProtocol::Tls => respond::tls_alert(TlsAlert::AccessDenied).to_vec(),
        FirstProtocol::Other => return reset(&stream),
    };
    end(stream, &answer).await;
}

/// Answers a client that was permitted and cannot be connected. Without a proxy it would have met an error of
/// its own, so only HTTP gets words.
pub(super) async fn fail(mut stream: TcpStream, failure: &UpstreamError, authority: &Authority) {
    if let UpstreamError::Refused(refusal) = failure {
        return refuse(stream, refusal).await;
    }
    if first_protocol(&mut stream).await != FirstProtocol::Http {
        return reset(&stream);
    }
    let failed = respond::failure(failure, authority, RefusalFormat::Json);
    end(stream, &respond::message(&respond::closing(failed))).await;
}

async fn end(mut stream: TcpStream, answer: &[u8]) {
    let _ = stream.write_all(answer).await;
    linger(stream).await;
}

/// To the client, an orderly close would look like one by its server.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Reads until the bytes show the protocol.
async fn first_protocol(stream: &mut TcpStream) -> FirstProtocol {
    let mut bytes = BytesMut::new();
    let read = async {
        while let Ok(1..) = stream.read_buf(&mut bytes).await {
            if let Some(protocol) = shown_by(&bytes) {
                return protocol;
            }
        }
        FirstProtocol::Other
    };
    timeout(FIRST_BYTES_TIMEOUT, read)
        .await
        .unwrap_or(FirstProtocol::Other)
}

/// The protocol that these bytes begin. `None`: more bytes are needed.
fn shown_by(bytes: &[u8]) -> Option<FirstProtocol> {
    let first = ClientProtocol::of_first_byte(*bytes.first()?);
    if first == Some(ClientProtocol::Tls) {
        return Some(FirstProtocol::Tls);
    }
    let is_http = plain_http::begins(bytes)?;
    Some(if is_http {
        FirstProtocol::Http
    } else {
        FirstProtocol::Other
    })
}
