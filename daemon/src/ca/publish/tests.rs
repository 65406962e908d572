//! Names, modes, and which files are removed when.

use super::*;

const ROOTS: [&[u8]; 2] = [b"root one", b"root two"];

fn put_all(state: &Path, ca: &[u8]) -> Published {
    publish(state, ca, ROOTS, SystemTime::now()).expect("written")
}

fn count(state: &Path) -> usize {
    std::fs::read_dir(state).unwrap().count()
}

#[test]
fn m5_files_are_named_by_their_content_and_all_users_may_read_them() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let published = put_all(&state, b"ca");
    for (path, kind) in [
        (&published.certificate, CERTIFICATE),
        (&published.bundle, BUNDLE),
    ] {
        let content = std::fs::read(path).unwrap();
        let name = format!("{kind}{}{END}", &hex(&fingerprint(&content))[..16]);
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), name);
        let metadata = std::fs::symlink_metadata(path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.mode() & 0o7777, 0o644);
    }
    let bundle = std::fs::read_to_string(&published.bundle).unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 3);
    let own = std::fs::read_to_string(&published.certificate).unwrap();
    assert!(bundle.ends_with(&own), "the roots, and then ours");
    assert_eq!(count(&state), 2, "nothing half-written stays");
}

#[test]
fn m5_the_same_content_is_the_same_file_and_another_ca_another() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let first = put_all(state, b"ca");
    let inode = std::fs::metadata(&first.bundle).unwrap().ino();
    assert_eq!(put_all(state, b"ca"), first);
    assert_eq!(
        std::fs::metadata(&first.bundle).unwrap().ino(),
        inode,
        "it was not written again"
    );
    assert_ne!(put_all(state, b"another").bundle, first.bundle);
    assert!(first.bundle.exists(), "programs that use the old one go on");
}

#[test]
fn m5_a_changed_file_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let published = put_all(directory.path(), b"ca");
    let sound = std::fs::read(&published.bundle).unwrap();
    std::fs::write(&published.bundle, "bent").unwrap();
    put_all(directory.path(), b"ca");
    assert_eq!(std::fs::read(&published.bundle).unwrap(), sound);
    std::fs::remove_file(&published.bundle).unwrap();
    std::os::unix::fs::symlink(&published.certificate, &published.bundle).unwrap();
    put_all(directory.path(), b"ca");
    assert!(
        std::fs::symlink_metadata(&published.bundle)
            .unwrap()
            .is_file()
    );
    assert_eq!(std::fs::read(&published.bundle).unwrap(), sound);
}

fn make_old(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(then).unwrap();
}

#[test]
fn m5_old_files_go_but_for_the_newest_and_the_young_and_those_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let old: Vec<Published> = (0..12u8).map(|number| put_all(state, &[number])).collect();
    for (days, published) in (40..).zip(old.iter().rev()) {
        make_old(&published.certificate, days);
        make_old(&published.bundle, days);
    }
    let strangers = [
        "ca-0123456789abcde.pem",
        "ca-0123456789abcdeF.pem",
        "ca-bundle-0123456789abcdef.crt",
        "ca.pem",
        "notes.txt",
    ];
    for stranger in strangers {
        std::fs::write(state.join(stranger), "").unwrap();
        make_old(&state.join(stranger), 400);
    }
    let abandoned = state.join(".ca-new-0123456789abcdef");
    std::fs::write(&abandoned, "").unwrap();
    make_old(&abandoned, 1);
    let current = put_all(state, b"current");
    assert!(current.certificate.exists() && current.bundle.exists());
    for (number, published) in old.iter().enumerate() {
        // The current one and the seven newest of the others.
        let stays = number >= 12 - 7;
        assert_eq!(published.certificate.exists(), stays, "{number}");
        assert_eq!(published.bundle.exists(), stays, "{number}");
    }
    for stranger in strangers {
        assert!(
            state.join(stranger).exists(),
            "{stranger} is not one of our files"
        );
    }
    assert!(!abandoned.exists());
    // Any number of young files stays.
    for number in 0..12u8 {
        put_all(state, &[number]);
    }
    put_all(state, b"current");
    assert_eq!(count(state), strangers.len() + 2 * 13);
}

#[test]
fn m5_a_directory_into_which_others_may_write_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    // A sticky bit does not help: another user may take the next file's name.
    for mode in [0o777, 0o1777] {
        std::fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        let why = publish(directory.path(), b"ca", ROOTS, SystemTime::now());
        let why = why.expect_err("a refusal");
        assert!(why.contains("others may write there"), "{why}");
        assert!(why.contains("chmod go-w"), "{why}");
        assert_eq!(count(directory.path()), 0);
    }
}
