//! The place of a run: a folder, a certificate authority, and the origin.
//!
//! There are two authorities, so that each side verifies certificates as usual: one signs the origin's
//! certificate, and with the other the programs that intercept sign theirs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::dial;
use crate::origin::{Origin, Ports};

/// The folder and the origin. Dropping it ends the origin and removes the folder.
pub(crate) struct Lab {
    folder: TempDir,
    origin: Origin,
}

impl Lab {
    /// Makes the folder and starts the origin.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir()?;
        // Programs that root starts become other users.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        write_certificates(folder.path())?;
        let origin = Origin::start(folder.path())?;
        Ok(Self { folder, origin })
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.origin.ports
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate of the origin's authority, in PEM form.
    pub(crate) fn origin_ca(&self) -> PathBuf {
        self.folder.path().join("origin-ca.pem")
    }

    /// The certificate with which programs intercept.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its key, in PKCS#8 PEM form.
    pub(crate) fn ca_key(&self) -> PathBuf {
        self.folder.path().join("ca.key")
    }

    /// A new folder for a program. Every user may read it.
    pub(crate) fn new_folder(&self, name: &str) -> anyhow::Result<TempDir> {
        let folder = tempfile::Builder::new()
            .prefix(name)
            .tempdir_in(self.folder.path())?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    /// A client's side of TLS that trusts the interceptors' authority, with one application protocol.
    pub(crate) fn client(
        &self,
        protocol: &str,
        resumes: Resumes,
    ) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca())?)?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        if resumes == Resumes::Never {
            config.resumption = rustls::client::Resumption::disabled();
        }
        Ok(Arc::new(config))
    }
}

/// Whether a client resumes TLS sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumes {
    Always,
    Never,
}

/// Writes the certificates and keys `ca`, `origin-ca` and `origin`.
pub(crate) fn write_certificates(folder: &Path) -> anyhow::Result<()> {
    authority(folder, "ca")?;
    let issuer = authority(folder, "origin-ca")?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([dial::HOST.to_owned()])?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    describe(&mut params, dial::HOST);
    let certificate = params.signed_by(&key, &issuer)?;
    write(folder, "origin", &certificate, &key)
}

/// Makes a new authority.
fn authority(folder: &Path, name: &str) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    describe(&mut params, name);
    write(folder, name, &params.self_signed(&key)?, &key)?;
    Ok(Issuer::new(params, key))
}

/// Names a certificate, and bounds its life.
fn describe(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(30);
}

/// Writes `NAME.pem` and `NAME.key`, the key for its owner only.
fn write(
    folder: &Path,
    name: &str,
    certificate: &Certificate,
    key: &KeyPair,
) -> anyhow::Result<()> {
    let (public, secret) = (
        folder.join(format!("{name}.pem")),
        folder.join(format!("{name}.key")),
    );
    fs::write(&public, certificate.pem())?;
    fs::set_permissions(&public, fs::Permissions::from_mode(0o644))?;
    fs::write(&secret, key.serialize_pem())?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
