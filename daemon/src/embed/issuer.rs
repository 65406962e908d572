//! The CA of an embedded proxy, in the same process: it signs leaves for the engine (SPEC M3, M4).
//!
//! Without a monitor there is no process to keep the key from. It is made when the proxy is built,
//! never leaves memory, and ends with the proxy. New settings replace one that is old.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use codex_network_config::CaCertificate;
use codex_network_engine::{ChildEnvironment, IssueError, IssuedLeaf, LeafIssuer};
use codex_network_policy::Host;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use rustls_pki_types::CertificateDer;

use crate::ca::roots::{self, Roots};
use crate::ca::{Ca, Lifetime, PublicKey, pem, publish, trusted};

/// The system's roots, read once for all proxies of the process.
static ROOTS: OnceLock<Roots> = OnceLock::new();

/// Holds the CA.
pub(super) struct EmbeddedIssuer {
    made: RwLock<EmbeddedCa>,
    /// The directory for bundles.
    directory: Option<PathBuf>,
}

/// A CA and its public facts.
#[derive(Clone)]
struct EmbeddedCa {
    ca: Arc<Ca>,
    public: Arc<CaCertificate>,
}

impl EmbeddedCa {
    /// Makes a CA. With a directory, writes the certificate and a bundle of it and the system's
    /// roots there.
    fn new(directory: Option<&Path>, now: SystemTime) -> Result<Self, String> {
        let ca = Ca::generate(Lifetime::Ephemeral, now).map_err(|error| format!("{error:#}"))?;
        let published = match directory {
            Some(directory) => {
                let roots = roots();
                let roots = roots.certificates.iter().map(|root| &**root);
                Some(publish::publish(directory, ca.certificate(), roots, now)?)
            }
            None => None,
        };
        let (certificate_file, bundle_file) = published
            .map(|published| (published.certificate, published.bundle))
            .unzip();
        let public = CaCertificate {
            der: Arc::clone(ca.certificate()),
            kept_at: None,
            certificate_file,
            bundle_file,
        };
        Ok(Self {
            ca: Arc::new(ca),
            public: Arc::new(public),
        })
    }
}

impl EmbeddedIssuer {
    /// Makes a CA. With a directory, writes the certificate and a bundle there.
    pub(super) fn ephemeral(bundle_directory: Option<&Path>) -> Result<Self, String> {
        let made = EmbeddedCa::new(bundle_directory, SystemTime::now())?;
        Ok(Self {
            made: RwLock::new(made),
            directory: bundle_directory.map(Into::into),
        })
    }

    /// The public facts about the CA, for the engine. A CA that is old at this time is replaced first
    /// (SPEC M3).
    pub(super) fn current_ca(&self, now: SystemTime) -> Arc<CaCertificate> {
        if self.made().ca.is_due(now) {
            match EmbeddedCa::new(self.directory.as_deref(), now) {
                Ok(new) => {
                    *self.made.write() = new;
                    tracing::info!(
                        "made a new CA, since the one in memory is past two thirds of its life, or not valid by \
                         this machine's clock"
                    );
                }
                Err(why) => tracing::warn!("the CA is not replaced: {why}"),
            }
        }
        self.made().public
    }

    fn made(&self) -> EmbeddedCa {
        let made = self.made.read();
        made.clone()
    }

    /// The bundle's file, if there is one.
    pub(super) fn bundle_file(&self) -> Option<PathBuf> {
        self.made().public.bundle_file.clone()
    }

    /// The bundle for a child with this environment. It includes the certificates in the files that
    /// the bundle will replace (SPEC B2). If it cannot be written, the common bundle is used.
    pub(super) fn bundle_for(&self, environment: &HashMap<String, String>) -> Option<PathBuf> {
        let public = self.made().public;
        let directory = self.directory.as_deref()?;
        let plain = public.bundle_file.clone()?;
        let named = ChildEnvironment::BUNDLE_VARIABLES.iter();
        let named = named.filter_map(|name| Some((*name, environment.get(*name)?.as_str())));
        let mut trusted = trusted::read(named);
        for warning in &trusted.warnings {
            tracing::warn!("{warning}");
        }
        let roots = &roots().certificates;
        let known = |der: &[u8]| roots.iter().any(|root| **root == *der) || *public.der == *der;
        trusted.certificates.retain(|der| !known(der));
        if trusted.certificates.is_empty() {
            return Some(plain);
        }
        let now = SystemTime::now();
        let publish = |own: &[&[u8]]| {
            let roots = roots.iter().map(|root| &**root);
            publish::publish(
                directory,
                &public.der,
                roots.chain(own.iter().copied()),
                now,
            )
        };
        let own: Vec<&[u8]> = trusted.certificates.iter().map(Vec::as_slice).collect();
        // The common bundle first: it stays among the newest, which are never removed.
        match publish(&[]).and_then(|_| publish(&own)) {
            Ok(published) => Some(published.bundle),
            Err(why) => {
                tracing::warn!("a child gets a bundle without what it trusted before: {why}");
                Some(plain)
            }
        }
    }

    /// The certificate as PEM.
    pub(super) fn certificate_pem(&self) -> String {
        pem::certificate(&self.made().public.der)
    }
}

/// The system's roots, for the engine.
pub(super) fn system_roots() -> Arc<[Arc<[u8]>]> {
    roots().certificates.as_slice().into()
}

fn roots() -> &'static Roots {
    ROOTS.get_or_init(|| {
        // The CA is made here, so it cannot be among the installed ones.
        let roots = roots::load(&[]);
        if let Some(warning) = &roots.warning {
            tracing::warn!("{warning}");
        }
        roots
    })
}

impl LeafIssuer for EmbeddedIssuer {
    fn issue<'a>(
        &'a self,
        host: &'a Host,
        public_key: &'a PublicKey,
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
        let EmbeddedCa { ca, public } = self.made();
        let issued = ca.issue(&host.to_string(), public_key, SystemTime::now());
        let issued = issued.map_err(|why| IssueError::Refused(why.to_string()));
        let leaf = issued.map(|leaf| IssuedLeaf {
            chain: vec![
                CertificateDer::from(leaf.certificate),
                CertificateDer::from(public.der.to_vec()),
            ],
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        });
        Box::pin(std::future::ready(leaf))
    }
}

impl fmt::Debug for EmbeddedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.made().ca.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn m3_new_settings_replace_a_ca_in_memory_that_is_old() {
        let issuer = EmbeddedIssuer::ephemeral(None).expect("a CA");
        let day = Duration::from_secs(24 * 60 * 60);
        let ca_at = |now| issuer.current_ca(now).der.to_vec();
        let start = SystemTime::now();
        let first = ca_at(start);
        assert_eq!(ca_at(start + 200 * day), first);
        let second = ca_at(start + 250 * day);
        assert_ne!(second, first);
        assert_eq!(ca_at(start + 250 * day), second);
        assert!(issuer.certificate_pem().contains("BEGIN CERTIFICATE"));
    }
}
