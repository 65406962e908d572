//! Notes that a server requests a client certificate. This proxy has none. A server that requires one ends
//! the connection, with an alert that often names another reason.
//!
//! All handshakes share the TLS configurations, since resumption compares them. So the request is noted
//! in the task that runs the handshake: rustls resolves the certificate while that task is polled.

use std::cell::Cell;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

tokio::task_local! {
    static REQUEST: Cell<ClientCertificate>;
}

/// Whether a server requested a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    Unasked,
    AskedFor,
}

/// A resolver that never has a client certificate. It records that the server requested one.
#[derive(Debug)]
pub(super) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _issuers: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Outside of `watched` the request cannot be noted.
        let _ = REQUEST.try_with(|request| request.set(ClientCertificate::AskedFor));
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Runs a handshake. Also returns whether the server requested a certificate.
pub(super) async fn watched<T>(handshake: impl Future<Output = T>) -> (T, ClientCertificate) {
    let handshake = async {
        let outcome = handshake.await;
        (outcome, REQUEST.with(Cell::get))
    };
    REQUEST
        .scope(Cell::new(ClientCertificate::Unasked), handshake)
        .await
}
