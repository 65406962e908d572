//! Logs clients that do not accept the proxy's certificates, once a minute for each client and host.
//!
//! A program that does not have the CA retries again and again. One line names the cause and the
//! remedy.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use codex_network_policy::Host;
use parking_lot::Mutex;
use rustls::AlertDescription;

const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A client that hangs up within this time without sending anything has rejected the certificate. After
/// that, it may have opened a connection that it did not need, as browsers do.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Most clients and hosts that are remembered. Beyond this number all are forgotten, and logged again.
const MAX_REMEMBERED: usize = 1024;

/// When each client and host was last logged.
#[derive(Debug, Default)]
pub(crate) struct Distrust {
    logged: Mutex<HashMap<(IpAddr, Host), Instant>>,
}

impl Distrust {
    /// Logs a handshake that the client broke off.
    pub(crate) fn note(&self, client: SocketAddr, host: &Host, error: &io::Error) {
        if !is_distrust(error) {
            tracing::info!(%client, %host, %error, "the TLS handshake with a client failed");
            return;
        }
        if self.is_new(client.ip(), host) {
            tracing::warn!(
                %client,
                %host,
                %error,
                "a client does not trust the proxy's CA, so it cannot reach the host: have it trust the certificate that `proxyctl ca show` names"
            );
        }
    }

    /// Logs a client that hung up without sending anything, this long after a completed handshake.
    pub(crate) fn note_silence(&self, client: SocketAddr, host: &Host, after: Duration) {
        if after < REJECTION_TIMEOUT && self.is_new(client.ip(), host) {
            tracing::warn!(
                %client,
                %host,
                "a client hung up when it saw the host's certificate, so it probably does not trust the proxy's CA: have it trust the certificate that `proxyctl ca show` names"
            );
        }
    }

    fn is_new(&self, client: IpAddr, host: &Host) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock();
        if logged.len() >= MAX_REMEMBERED {
            logged.retain(|_, at| now - *at < LOG_INTERVAL);
        }
        if logged.len() >= MAX_REMEMBERED {
            logged.clear();
        }
        let last = logged.insert((client, host.clone()), now);
        match last {
            Some(at) if now - at < LOG_INTERVAL => {
                // The minute counts from the last log line.
                logged.insert((client, host.clone()), at);
                false
            }
            _ => true,
        }
    }
}

/// Whether the client rejected the certificate, by an alert or by hanging up when it saw it.
fn is_distrust(error: &io::Error) -> bool {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(alert)) => matches!(
            alert,
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate
        ),
        Some(_) => false,
        None => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_logged_once_per_host_and_the_memory_is_bounded() {
        let distrust = Distrust::default();
        let client = IpAddr::from([127, 0, 0, 1]);
        let host = |number: usize| Host::parse(&format!("h{number}.test")).expect("a host");
        assert!(distrust.is_new(client, &host(0)));
        assert!(!distrust.is_new(client, &host(0)));
        assert!(distrust.is_new(client, &host(1)));
        assert!(distrust.is_new(IpAddr::from([127, 0, 0, 2]), &host(0)));
        for number in 0..3 * MAX_REMEMBERED {
            distrust.is_new(client, &host(number));
            let logged = distrust.logged.lock();
            assert!(logged.len() <= MAX_REMEMBERED);
        }
    }
}
