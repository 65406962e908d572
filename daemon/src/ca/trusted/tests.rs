//! Which certificates are taken from which files, and the warnings for the others.

use std::time::SystemTime;

use tempfile::TempDir;

use super::*;
use crate::ca::{Ca, Lifetime, pem};

fn der() -> Vec<u8> {
    let ca = Ca::generate(Lifetime::Ephemeral, SystemTime::now()).expect("a CA");
    ca.certificate().to_vec()
}

/// A file of this content; gives its path.
fn file(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, content).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

fn read_one(path: &str) -> Trusted {
    read([("SSL_CERT_FILE", path)])
}

#[test]
fn b2_certificates_come_out_of_every_file_once_and_in_one_order() {
    let directory = TempDir::new().expect("a directory");
    let (one, two) = (der(), der());
    let (first, second) = (pem::certificate(&one), pem::certificate(&two));
    let a = file(&directory, "a.pem", format!("a comment\n{first}{second}"));
    let b = file(&directory, "b.pem", format!("{second}{first}{second}"));
    let windows = file(&directory, "c.pem", first.replace('\n', "\r\n"));
    let expected = BTreeSet::from([one, two]);
    let forth = read([
        ("PIP_CERT", &*a),
        ("GIT_SSL_CAINFO", &*b),
        ("DENO_CERT", &*a),
    ]);
    assert_eq!(forth.certificates, expected);
    assert_eq!(forth.warnings, [""; 0]);
    assert_eq!(read([("X", &*b), ("Y", &*windows)]).certificates, expected);
}

#[test]
fn b2_nothing_but_certificates_comes_out_of_a_file() {
    let directory = TempDir::new().expect("a directory");
    let one = der();
    let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    let other = "-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n";
    let text = [key, &pem::certificate(&one), other, "\u{ff}"].concat();
    let found = read_one(&file(&directory, "mixed.pem", text));
    assert_eq!(found.certificates, BTreeSet::from([one]));
    let alone = read_one(&file(&directory, "key.pem", key));
    assert!(alone.certificates.is_empty());
    assert!(
        alone.warnings[0].contains("no certificate"),
        "{:?}",
        alone.warnings
    );
}

#[test]
fn b2_broken_certificates_are_left_out_and_the_others_are_taken() {
    let directory = TempDir::new().expect("a directory");
    let (one, two) = (der(), der());
    let (first, second) = (pem::certificate(&one), pem::certificate(&two));
    let cut = &second[..second.len() - 40];
    let bent = second.replacen("MII", "M!I", 1);
    let no_der = pem::certificate(b"no certificate");
    for (name, broken) in [("cut", cut), ("bent", &bent), ("no_der", &no_der)] {
        let path = file(&directory, name, format!("{first}{broken}"));
        let found = read_one(&path);
        assert_eq!(found.certificates, BTreeSet::from([one.clone()]), "{name}");
        assert_eq!(found.warnings.len(), 1, "{name}: {:?}", found.warnings);
        assert!(found.warnings[0].contains("certificate 2 in it is broken"));
    }
    // However many there are, the author of the file cannot fill the log.
    let path = file(&directory, "many", format!("{first}{}", bent.repeat(1000)));
    let found = read_one(&path);
    assert_eq!(found.certificates, BTreeSet::from([one.clone()]));
    assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
    assert!(found.warnings[0].contains("1000 certificates in it are broken, number 2 "));
    // A certificate behind a broken one is taken too.
    let path = file(&directory, "behind", format!("{bent}{first}"));
    assert_eq!(read_one(&path).certificates, BTreeSet::from([one]));
}

#[test]
fn b2_a_file_that_cannot_be_used_is_a_warning_and_delays_no_one() {
    let directory = TempDir::new().expect("a directory");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let huge = directory.path().join("huge");
    let sparse = std::fs::File::create(&huge).expect("a file");
    sparse.set_len(MAX_FILE_BYTES + 1).expect("a size");
    let missing = directory.path().join("missing");
    for (path, why) in [
        (&*pipe, "not a regular file"),
        (directory.path(), "it is a directory"),
        (&*huge, "larger than 4 MiB"),
        (&*missing, "No such file"),
        (Path::new("roots.pem"), "not absolute"),
        (Path::new("/dev/zero"), "not a regular file"),
    ] {
        let found = read_one(path.to_str().expect("UTF-8"));
        assert!(found.certificates.is_empty());
        let [told] = &*found.warnings else {
            panic!("{}: {:?}", path.display(), found.warnings);
        };
        assert!(
            told.contains("SSL_CERT_FILE=") && told.contains(why),
            "{told}"
        );
    }
    let unset = read_one("");
    assert!(unset.warnings.is_empty(), "{:?}", unset.warnings);
}
