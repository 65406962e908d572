//! The origin's HTTPS: HTTP/1.1 or HTTP/2, as the client chooses by ALPN.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::http;

/// The most bytes of a body over HTTP/2.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The server's side of TLS, with the certificate and key in the folder.
pub(super) fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(folder.join("origin.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("origin.key"))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

pub(super) async fn serve(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()> {
    let stream = acceptor.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return http::serve(stream).await;
    }
    let body = Bytes::from(vec![b'x'; MAX_BODY_BYTES]);
    let mut connection = server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request.map_err(io::Error::other)?;
        let length = request
            .uri()
            .path()
            .trim_start_matches('/')
            .parse()
            .unwrap_or(0);
        let body = body.slice(..MAX_BODY_BYTES.min(length));
        answer(respond, body);
    }
    Ok(())
}

/// Sends a body, as fast as the windows of the client permit.
fn answer(mut respond: SendResponse<Bytes>, body: Bytes) {
    let response = ::http::Response::builder()
        .header("content-length", body.len())
        .body(());
    // A client may reset its stream. h2 keeps the part of the body that the
    // window does not admit yet.
    if let Ok(response) = response
        && let Ok(mut stream) = respond.send_response(response, body.is_empty())
        && !body.is_empty()
    {
        let _ = stream.send_data(body, true);
    }
}
