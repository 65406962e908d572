//! The CA and its leaves, as clients judge them.

use rustls_pki_types::{ServerName, UnixTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn ca() -> Ca {
    Ca::generate(Lifetime::Kept, SystemTime::now()).expect("a CA")
}

fn public_key() -> PublicKey {
    let mut key = [0; 65];
    let secret = p256::SecretKey::from_slice(&[7; 32]).expect("a scalar");
    key.copy_from_slice(secret.public_key().to_sec1_bytes().as_ref());
    key
}

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    parse_x509_certificate(der).expect("a certificate").1
}

fn expect_valid(ca: &[u8], leaf: &[u8], name: &str) {
    let ca = CertificateDer::from(ca);
    let anchors = [webpki::anchor_from_trusted_cert(&ca).expect("a trust anchor")];
    let leaf = CertificateDer::from(leaf);
    let leaf = webpki::EndEntityCert::try_from(&leaf).expect("a leaf");
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &[],
        UnixTime::now(),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )
    .expect("a chain");
    let name = ServerName::try_from(name).expect("a name");
    leaf.verify_is_valid_for_subject_name(&name)
        .expect("the name");
}

#[test]
fn m3_the_ca_certificate_is_one_for_leaves_only() {
    let now = SystemTime::now();
    for (lifetime, years) in [(Lifetime::Kept, 10), (Lifetime::Ephemeral, 1)] {
        let ca = Ca::generate(lifetime, now).expect("a CA");
        let certificate = parsed(ca.certificate());
        let constraints = certificate.basic_constraints().expect("one").expect("one");
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = certificate.key_usage().expect("one").expect("one");
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        let has_key_id = certificate.extensions().iter().any(|extension| {
            matches!(
                extension.parsed_extension(),
                ParsedExtension::SubjectKeyIdentifier(_)
            )
        });
        assert!(has_key_id);
        let subject = certificate.subject().to_string();
        assert!(
            subject.starts_with("CN=codex-network-proxy CA "),
            "{subject}"
        );
        assert_eq!(certificate.issuer(), certificate.subject());
        certificate.verify_signature(None).expect("its own");
        let validity = certificate.validity();
        let from = SystemTime::from(validity.not_before.to_datetime());
        let until = SystemTime::from(validity.not_after.to_datetime());
        assert!(
            from + DAY <= now && from + 2 * DAY > now,
            "clocks may be behind"
        );
        assert!(until <= now + years * 365 * DAY && until > now + (years * 365 - 1) * DAY);
    }
    assert_ne!(ca().fingerprint(), ca().fingerprint());
}

#[test]
fn m4_a_leaf_is_for_one_name_and_for_a_week() {
    let ca = ca();
    let now = SystemTime::now();
    let key = public_key();
    for name in ["a.test", "xn--bcher-kva.test", "192.0.2.7", "2001:db8::7"] {
        let leaf = ca.issue(name, &key, now).expect(name);
        expect_valid(ca.certificate(), &leaf.certificate, name);
        let certificate = parsed(&leaf.certificate);
        assert_eq!(certificate.subject().iter().count(), 0, "the name is empty");
        let names = certificate
            .subject_alternative_name()
            .expect("one")
            .expect("one");
        assert!(names.critical, "RFC 5280 section 4.2.1.6");
        let [only] = names.value.general_names.as_slice() else {
            panic!("{names:?}");
        };
        assert_eq!(
            matches!(only, GeneralName::IPAddress(_)),
            name.parse::<std::net::IpAddr>().is_ok(),
            "{name}"
        );
        let usage = certificate.key_usage().expect("one").expect("one");
        assert!(usage.value.digital_signature() && !usage.value.key_cert_sign());
        let purpose = certificate.extended_key_usage().expect("one").expect("one");
        assert!(purpose.value.server_auth && !purpose.value.client_auth && !purpose.value.any);
        let constraints = certificate.basic_constraints().expect("one");
        assert!(constraints.is_none_or(|constraints| !constraints.value.ca));
        assert_eq!(
            *certificate.public_key().subject_public_key.data,
            key,
            "the key that was given"
        );
        let serial = certificate.raw_serial();
        assert!((16..=20).contains(&serial.len()) && serial[0] < 0x80);
        let from = SystemTime::from(certificate.validity().not_before.to_datetime());
        assert!(from <= now && leaf.not_after <= now + 7 * DAY && leaf.not_after > now + 6 * DAY);
        assert!(from >= SystemTime::from(ca.not_before), "within the CA's");
        let again = ca.issue(name, &key, now).expect(name);
        assert_ne!(parsed(&again.certificate).raw_serial(), serial);
    }
}

#[test]
fn m4_openssl_takes_the_leaf_for_a_servers() {
    let ca = ca();
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, der: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem::certificate(der)).expect("a new file");
        path
    };
    let authority = write("ca.pem", ca.certificate());
    for (name, option) in [
        ("a.test", "-verify_hostname"),
        ("2001:db8::7", "-verify_ip"),
    ] {
        let leaf = ca.issue(name, &public_key(), SystemTime::now());
        let leaf = write("leaf.pem", &leaf.expect("a leaf").certificate);
        let said = std::process::Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver"])
            .args([option, name, "-CAfile"])
            .args([&authority, &leaf])
            .output()
            .expect("openssl is installed");
        assert!(said.status.success(), "{name}: {said:?}");
    }
}

#[test]
fn m4_a_leaf_names_its_issuers_key() {
    let ca = ca();
    let leaf = ca.issue("a.test", &public_key(), SystemTime::now());
    let leaf = leaf.expect("a leaf").certificate;
    let of = |der: &[u8], authority: bool| {
        let certificate = parsed(der);
        certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) if !authority => Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) if authority => {
                    id.key_identifier.as_ref().map(|id| id.0.to_vec())
                }
                _ => None,
            })
    };
    let theirs = of(&leaf, true);
    assert!(theirs.is_some());
    assert_eq!(theirs, of(ca.certificate(), false));
}

#[test]
fn m4_a_leaf_does_not_outlive_its_ca() {
    let ca = ca();
    let end = SystemTime::from(ca.not_after);
    let late = ca
        .issue("a.test", &public_key(), end - DAY)
        .expect("a leaf");
    assert_eq!(late.not_after, end);
    assert_eq!(
        ca.issue("a.test", &public_key(), end),
        Err(NotIssued::NotValidNow)
    );
}

#[test]
fn m3_a_ca_is_made_again_from_its_key_and_certificate_and_from_nothing_else() {
    let ca = ca();
    let now = SystemTime::now();
    let load = |scalar: &Scalar, der: &[u8], now| Ca::load(scalar, der, now);
    let again = load(&ca.scalar(), ca.certificate(), now).expect("the same CA");
    assert_eq!(again, ca);
    let leaf = again.issue("a.test", &public_key(), now).expect("a leaf");
    expect_valid(ca.certificate(), &leaf.certificate, "a.test");

    let zero = Scalar::default();
    assert_eq!(load(&zero, ca.certificate(), now), Err(Unfit::Key));
    let other = self::ca().scalar();
    assert_eq!(load(&other, ca.certificate(), now), Err(Unfit::OtherKey));
    assert_eq!(
        load(&ca.scalar(), &leaf.certificate, now),
        Err(Unfit::NotACa)
    );
    let der = ca.certificate();
    let end = SystemTime::from(ca.not_after);
    assert_eq!(load(&ca.scalar(), der, end), Err(Unfit::Expired));
    let early = now - 3 * DAY;
    assert_eq!(load(&ca.scalar(), der, early), Err(Unfit::NotYet));
    for cut in 0..der.len() {
        assert_eq!(
            load(&ca.scalar(), &der[..cut], now),
            Err(Unfit::Unreadable),
            "{cut}"
        );
    }
    let longer = [der, &[0][..]].concat();
    assert_eq!(load(&ca.scalar(), &longer, now), Err(Unfit::Unreadable));
}

/// A CA that another program made.
fn foreign(change: impl FnOnce(&mut CertificateParams)) -> (Scalar, Vec<u8>) {
    let key = CaKey::new(SigningKey::try_generate().expect("a key"));
    let now = SystemTime::now();
    let mut params = params_of_ca(&key, now - DAY, now + DAY).expect("parameters");
    change(&mut params);
    let certificate = params.self_signed(&key).expect("a certificate");
    (key.scalar(), certificate.der().to_vec())
}

#[test]
fn m3_the_subject_of_a_given_ca_is_taken_over_byte_by_byte() {
    let (scalar, der) = foreign(|params| {
        let name = &mut params.distinguished_name;
        name.push(
            DnType::OrganizationName,
            rcgen::DnValue::PrintableString("Example".try_into().expect("printable")),
        );
        name.push(DnType::CountryName, "NO");
        name.push(DnType::OrganizationalUnitName, "M\u{fc}ller & S\u{f8}n");
    });
    let ca = Ca::load(&scalar, &der, SystemTime::now()).expect("a CA");
    let leaf = ca.issue("a.test", &public_key(), SystemTime::now());
    let leaf = leaf.expect("a leaf").certificate;
    assert_eq!(
        parsed(&leaf).issuer().as_raw(),
        parsed(&der).subject().as_raw()
    );
    expect_valid(&der, &leaf, "a.test");
}

#[test]
fn m3_a_given_ca_that_cannot_sign_or_has_no_name_is_refused() {
    let now = SystemTime::now();
    let (scalar, der) = foreign(|params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    assert_eq!(Ca::load(&scalar, &der, now), Err(Unfit::MayNotSign));
    let (scalar, der) = foreign(|params| params.distinguished_name = DistinguishedName::new());
    assert_eq!(Ca::load(&scalar, &der, now), Err(Unfit::Subject));
    let (scalar, der) = foreign(|params| params.is_ca = IsCa::NoCa);
    assert_eq!(Ca::load(&scalar, &der, now), Err(Unfit::NotACa));
}

#[test]
fn m4_no_debug_output_shows_the_key() {
    let ca = ca();
    let told = format!("{ca:?} {ca:#?}");
    let scalar = ca.scalar();
    assert!(!told.contains(&hex(&scalar[..])));
    assert!(told.contains(&hex(ca.fingerprint())), "{told}");
}
