//! The CA of the interception: its key, its certificate, and the leaves that it signs (SPEC M3, M4).
//!
//! Only the monitor has the key. Its type is one of `p256`, which wipes it when it is dropped.
//! `rcgen` writes the certificates and uses the key through its trait for signers. [`certificate`]
//! holds the public part of a CA. The loader and `init` use [`files`] and [`publish`], and an
//! embedded proxy uses [`trusted`]; these three touch files.

pub(crate) mod certificate;
pub(crate) mod files;
pub(crate) mod pem;
pub(crate) mod publish;
pub(crate) mod roots;
pub(crate) mod trusted;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certificate::{Unfit, hex};
use codex_network_policy::Host;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// How far a client's clock may be behind.
const SKEW: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a CA in files is valid.
const KEPT: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// How long a CA that ends with the process is valid.
const EPHEMERAL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long a leaf is valid.
const LEAF: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// An uncompressed P-256 point in the form of SEC 1 section 2.3.3: 4, x, y.
pub(crate) type PublicKey = [u8; 65];

/// A secret scalar, big-endian; wiped when dropped.
pub(crate) type Scalar = Zeroizing<[u8; 32]>;

/// A CA that can issue. Neither `Debug` nor an error shows the key.
pub(crate) struct Ca {
    issuer: Issuer<'static, CaKey>,
    certificate: Arc<[u8]>,
    fingerprint: [u8; 32],
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// A certificate for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// DER.
    pub(crate) certificate: Vec<u8>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// Why a leaf is not issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotIssued {
    /// The name is not in the form that [`Host`] writes. A sound worker never sends it.
    #[error("the name is not a host in canonical form")]
    Name,
    /// The key is not a point of the curve. A sound worker never sends it.
    #[error("the public key is not a point of P-256")]
    PublicKey,
    /// RFC 5280 section 4.2.1.6 has no field for a scope.
    #[error("a certificate cannot name an address with a scope")]
    Scope,
    #[error("the CA has expired, or is not valid yet, by this machine's clock")]
    NotValidNow,
    #[error("signing failed")]
    Signing,
}

/// How long a new CA lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It is kept in files.
    Kept,
    /// It ends with the process.
    Ephemeral,
}

/// The CA's key, behind the trait of `rcgen`.
struct CaKey {
    key: SigningKey,
    public: PublicKey,
}

/// The public key of a leaf.
struct LeafKey<'a>(&'a PublicKey);

impl Ca {
    /// Makes a key and its certificate.
    ///
    /// # Errors
    ///
    /// Returns an error if the system has no random numbers, or the certificate cannot be written.
    pub(crate) fn generate(lifetime: Lifetime, now: SystemTime) -> anyhow::Result<Self> {
        let key = SigningKey::try_generate()
            .map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
        let key = CaKey::new(key);
        let valid = match lifetime {
            Lifetime::Kept => KEPT,
            Lifetime::Ephemeral => EPHEMERAL,
        };
        let params = params_of_ca(&key, now - SKEW, now + valid)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self::from_parts(key, certificate.der(), now)?)
    }

    /// The CA of this key and certificate (DER).
    ///
    /// # Errors
    ///
    /// Returns an error if they do not form a CA that can be used now.
    pub(crate) fn load(
        scalar: &Scalar,
        certificate: &[u8],
        now: SystemTime,
    ) -> Result<Self, Unfit> {
        let key = SigningKey::from_slice(&scalar[..]).map_err(|_| Unfit::Key)?;
        Self::from_parts(CaKey::new(key), certificate, now)
    }

    fn from_parts(key: CaKey, certificate: &[u8], now: SystemTime) -> Result<Self, Unfit> {
        let judged = certificate::judge(certificate, &key.public, now)?;
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(certificate), key)
            .map_err(|_| Unfit::Subject)?;
        let ca = Self {
            issuer,
            certificate: certificate.into(),
            fingerprint: certificate::fingerprint(certificate),
            not_before: judged.not_before,
            not_after: judged.not_after,
        };
        // Chains are built by comparing names byte by byte (RFC 5280 section 7.1), and `rcgen` does
        // not preserve every name that a certificate may have.
        let host = Host::parse("probe.invalid").map_err(|_| Unfit::Subject)?;
        let probe = ca.sign(&host, &ca.issuer.key().public, now);
        let probe = probe.map_err(|_| Unfit::Subject)?;
        if !certificate::issued_by(&probe.certificate, certificate) {
            return Err(Unfit::Subject);
        }
        Ok(ca)
    }

    /// Whether it should be replaced: two thirds of its life are over, or it is not valid at this time.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        let now = OffsetDateTime::from(now);
        let worn = self.not_before + (self.not_after - self.not_before) * 2 / 3;
        now < self.not_before || now >= worn
    }

    /// The period of validity, as text.
    pub(crate) fn valid(&self) -> String {
        let [from, until] = [self.not_before, self.not_after].map(OffsetDateTime::date);
        format!("valid from {from} until {until}")
    }

    /// The certificate (DER).
    pub(crate) fn certificate(&self) -> &Arc<[u8]> {
        &self.certificate
    }

    /// SHA-256 of the certificate.
    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The key, to pass it from the loader to the monitor.
    pub(crate) fn scalar(&self) -> Scalar {
        self.issuer.key().scalar()
    }

    /// Issues a certificate for exactly one host.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not in the form that [`Host`] writes, or the key is not a
    /// point of the curve.
    pub(crate) fn issue(
        &self,
        name: &str,
        public_key: &PublicKey,
        now: SystemTime,
    ) -> Result<Leaf, NotIssued> {
        self.sign(&judge_request(name, public_key)?, public_key, now)
    }

    fn sign(
        &self,
        host: &Host,
        public_key: &PublicKey,
        now: SystemTime,
    ) -> Result<Leaf, NotIssued> {
        let subject = match host {
            Host::V6(host) if host.scope().is_some() => return Err(NotIssued::Scope),
            Host::V6(host) => SanType::IpAddress(host.address().into()),
            Host::V4(address) => SanType::IpAddress((*address).into()),
            Host::Name(name) => {
                SanType::DnsName(name.as_str().try_into().map_err(|_| NotIssued::Name)?)
            }
        };
        // Some clients refuse a leaf that begins before its CA or ends after it.
        let not_before = whole_seconds(now - SKEW).max(self.not_before);
        let not_after = whole_seconds(now + LEAF).min(self.not_after);
        let now = whole_seconds(now);
        if not_after <= now || now < not_before {
            return Err(NotIssued::NotValidNow);
        }
        let mut params = CertificateParams::default();
        // The name is only in the alternative name, which is critical then.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![subject];
        params.serial_number = Some(serial().map_err(|_| NotIssued::Signing)?);
        params.not_before = not_before;
        params.not_after = not_after;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let signed = params
            .signed_by(&LeafKey(public_key), &self.issuer)
            .map_err(|_| NotIssued::Signing)?;
        Ok(Leaf {
            certificate: signed.der().to_vec(),
            not_before: not_before.into(),
            not_after: not_after.into(),
        })
    }
}

/// Checks a request for a leaf, whichever CA would issue it.
///
/// # Errors
///
/// For a request that a sound worker never sends: a [`NotIssued::Name`], [`NotIssued::PublicKey`]
/// or [`NotIssued::Scope`].
pub(crate) fn judge_request(name: &str, public_key: &PublicKey) -> Result<Host, NotIssued> {
    let host = Host::parse(name)
        .ok()
        .filter(|host| host.to_string() == name)
        .ok_or(NotIssued::Name)?;
    if public_key[0] != 4 || p256::PublicKey::from_sec1_bytes(public_key).is_err() {
        return Err(NotIssued::PublicKey);
    }
    match &host {
        Host::V6(address) if address.scope().is_some() => Err(NotIssued::Scope),
        _ => Ok(host),
    }
}

/// The content of our CA certificate.
fn params_of_ca(
    key: &CaKey,
    not_before: SystemTime,
    not_after: SystemTime,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    // Two of our CAs have different names in a list of trusted ones.
    let mark = hex(&certificate::fingerprint(&key.public)[..4]);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("codex-network-proxy CA {mark}"));
    params.serial_number = Some(serial()?);
    params.not_before = whole_seconds(not_before);
    params.not_after = whole_seconds(not_after);
    // The CA may sign leaves only, and no other CA.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A positive number with 158 random bits: RFC 5280 section 4.1.2.2 allows at most 20 bytes, and
/// the CA/Browser Forum requires at least 64 random bits.
fn serial() -> anyhow::Result<SerialNumber> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Certificates have no fractions of a second (RFC 5280 section 4.1.2.5).
fn whole_seconds(time: SystemTime) -> OffsetDateTime {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time)
}

impl CaKey {
    fn new(key: SigningKey) -> Self {
        let mut public = [0; 65];
        let point = key.verifying_key().to_sec1_point(false);
        public.copy_from_slice(point.as_bytes());
        Self { key, public }
    }

    fn scalar(&self) -> Scalar {
        let mut scalar = Scalar::default();
        // The copy in between is wiped too.
        let bytes = Zeroizing::new(<[u8; 32]>::from(self.key.to_bytes()));
        scalar.copy_from_slice(&bytes[..]);
        scalar
    }
}

impl rcgen::SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Result<DerSignature, _> = self.key.try_sign(message);
        let signature = signature.map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_bytes().to_vec())
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl PublicKeyData for LeafKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("fingerprint", &hex(&self.fingerprint))
            .finish_non_exhaustive()
    }
}

impl PartialEq for Ca {
    /// A certificate holds the public key, and a CA is made only from keys that match.
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

impl Eq for Ca {}

#[cfg(test)]
mod tests;
