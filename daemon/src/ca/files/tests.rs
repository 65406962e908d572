//! Which files are accepted as the CA's.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;
use crate::ca::pem;

fn scene() -> (TempDir, CaPaths, Ca) {
    let directory = tempfile::tempdir().unwrap();
    let paths = in_state(directory.path());
    let made = make(&paths, SystemTime::now()).unwrap();
    let Made::New(ca) = made else {
        panic!("{made:?}");
    };
    (directory, paths, ca)
}

/// The sentence with which the pair is refused.
fn refused(paths: &CaPaths) -> String {
    let error = read(paths, SystemTime::now()).expect_err("a refusal");
    let told = error.to_string();
    assert_eq!(told.lines().count(), 1, "one error, one line: {told}");
    told
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn m3_a_ca_that_was_made_is_read_back() {
    let (_directory, paths, ca) = scene();
    assert_eq!(read(&paths, SystemTime::now()).unwrap(), Some(ca));
}

#[test]
fn m3_no_files_are_no_error_and_one_is() {
    let (directory, paths, _) = scene();
    let nowhere = in_state(&directory.path().join("nowhere"));
    assert_eq!(read(&nowhere, SystemTime::now()).unwrap(), None);
    let key = std::fs::read(&paths.key).unwrap();
    std::fs::remove_file(&paths.key).unwrap();
    let told = refused(&paths);
    assert!(told.contains("ca.pem is there and") && told.contains("ca.key is not"));
    std::fs::remove_file(&paths.certificate).unwrap();
    std::fs::write(&paths.key, key).unwrap();
    mode(&paths.key, 0o600);
    let told = refused(&paths);
    assert!(told.contains("ca.key is there and") && told.contains("ca.pem is not"));
}

#[test]
fn m3_symlinks_are_refused_for_either_file_even_broken_ones() {
    for broken in [false, true] {
        for of in [
            |paths: &CaPaths| paths.key.clone(),
            |paths: &CaPaths| paths.certificate.clone(),
        ] {
            let (directory, paths, _) = scene();
            let target = directory.path().join("elsewhere");
            std::fs::rename(of(&paths), &target).unwrap();
            if broken {
                std::fs::remove_file(&target).unwrap();
            }
            symlink(&target, of(&paths)).unwrap();
            let told = refused(&paths);
            assert!(told.contains("is a symlink"), "{told}");
            let made = make(&paths, SystemTime::now());
            assert!(matches!(made, Err(FileError::Symlink(_))), "{made:?}");
        }
    }
}

#[test]
fn m3_a_key_that_others_may_read_is_refused() {
    let (_directory, paths, _) = scene();
    for open in [0o640, 0o604, 0o620, 0o601, 0o660, 0o777] {
        mode(&paths.key, open);
        let told = refused(&paths);
        assert!(told.contains(&format!("mode {open:04o}")), "{told}");
        assert!(told.contains("chmod 600"), "{told}");
    }
    mode(&paths.key, 0o400);
    read(&paths, SystemTime::now()).expect("stricter is good");
}

#[test]
fn m3_a_certificate_that_others_may_write_is_refused() {
    let (_directory, paths, _) = scene();
    mode(&paths.certificate, 0o664);
    let told = refused(&paths);
    assert!(told.contains("chmod go-w"), "{told}");
}

#[test]
fn m3_a_file_of_another_user_is_refused() {
    let (_directory, paths, _) = scene();
    let metadata = std::fs::metadata(&paths.key).unwrap();
    let owner = metadata.uid();
    check_owner(&paths.key, &metadata, owner).expect("ours");
    if owner == 0 {
        std::os::unix::fs::chown(&paths.key, Some(12345), None).unwrap();
        let told = refused(&paths);
        assert!(told.contains("belongs to user 12345"), "{told}");
    } else {
        let told = check_owner(&paths.key, &metadata, owner + 1).expect_err("a stranger's");
        assert!(told.to_string().contains("belongs to user"), "{told}");
    }
}

#[test]
fn m3_a_directory_or_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    let (_directory, paths, _) = scene();
    std::fs::remove_file(&paths.key).unwrap();
    std::fs::create_dir(&paths.key).unwrap();
    assert!(refused(&paths).contains("not a regular file"));
    std::fs::remove_dir(&paths.key).unwrap();
    nix::unistd::mkfifo(&paths.key, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(refused(&paths).contains("not a regular file"));
}

#[test]
fn m3_halves_of_two_cas_are_refused() {
    let (_directory, paths, _) = scene();
    let (_other_directory, other, _) = scene();
    std::fs::copy(&other.certificate, &paths.certificate).unwrap();
    assert!(refused(&paths).contains("do not match"));
}

#[test]
fn m3_an_expired_ca_is_refused() {
    let (_directory, paths, _) = scene();
    let in_eleven_years = SystemTime::now() + std::time::Duration::from_secs(11 * 366 * 86400);
    let error = read(&paths, in_eleven_years).expect_err("a refusal");
    let error = error.to_string();
    assert!(
        error.contains("has expired; move both files away"),
        "{error}"
    );
    assert!(error.contains("`codex-network-proxy init`"), "{error}");
    let a_year_ago = SystemTime::now() - std::time::Duration::from_secs(366 * 86400);
    let error = read(&paths, a_year_ago).expect_err("a refusal");
    let error = error.to_string();
    assert!(
        error.contains("is not valid yet; set this machine's clock (`timedatectl`)"),
        "{error}"
    );
}

#[test]
fn m3_a_certificate_that_is_no_ca_is_refused() {
    let (_directory, paths, ca) = scene();
    let mut key = [0; 65];
    let secret = p256::SecretKey::from_slice(&ca.scalar()[..]).unwrap();
    key.copy_from_slice(secret.public_key().to_sec1_bytes().as_ref());
    let leaf = ca.issue("a.test", &key, SystemTime::now()).unwrap();
    std::fs::write(&paths.certificate, pem::certificate(&leaf.certificate)).unwrap();
    assert!(refused(&paths).contains("not that of a CA"));
}

#[test]
fn m3_other_keys_and_texts_are_refused_with_a_command_that_converts_them() {
    let (_directory, paths, ca) = scene();
    let secret = p256::SecretKey::from_slice(&ca.scalar()[..]).unwrap();
    let sec1 = secret.to_sec1_pem(p256::pkcs8::LineEnding::LF).unwrap();
    for text in ["", "nothing", sec1.as_str(), "\u{0}"] {
        std::fs::write(&paths.key, text).unwrap();
        let told = refused(&paths);
        assert!(
            told.contains("PKCS#8") && told.contains("openssl pkcs8"),
            "{told}"
        );
    }
    let (_directory, paths, ca) = scene();
    let pem = pem::certificate(ca.certificate());
    for text in [String::new(), "nothing".to_owned(), pem.repeat(2)] {
        std::fs::write(&paths.certificate, text).unwrap();
        let told = refused(&paths);
        assert!(told.contains("exactly one certificate"), "{told}");
    }
}

#[test]
fn c10_a_private_key_beside_the_certificate_is_refused() {
    for kind in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let (_directory, paths, ca) = scene();
        let pem = pem::certificate(ca.certificate());
        let key = format!("-----BEGIN {kind}-----\r\nAAAA\r\n-----END {kind}-----\r\n");
        for text in [format!("{pem}{key}"), format!("{key}{pem}")] {
            std::fs::write(&paths.certificate, text).unwrap();
            let told = refused(&paths);
            assert!(told.contains("holds a private key"), "{told}");
        }
    }
}
