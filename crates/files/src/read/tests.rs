//! Reading files, devices and pipes.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const SMALL: Reading = Reading::up_to(1000);

#[test]
fn c5_a_file_of_up_to_the_limit_is_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    for size in [0, 1, 999, 1000] {
        std::fs::write(&file, vec![b'x'; size]).unwrap();
        assert_eq!(SMALL.read(&file).unwrap().len(), size);
    }
    std::fs::write(&file, [b'x'; 1001]).unwrap();
    let refused = SMALL.read(&file).unwrap_err();
    assert_eq!(refused.to_string(), "it is larger than 1000 bytes");
}

#[test]
fn c5_a_growing_file_and_one_of_unknown_size_are_read_up_to_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "x").unwrap();
    let opened = SMALL.open(&path).unwrap();
    std::fs::write(&path, [b'x'; 5000]).unwrap();
    assert!(matches!(opened.read(), Err(ReadError::TooLarge(1000))));
    let opened = SMALL.open(&path);
    assert!(matches!(opened, Err(ReadError::TooLarge(1000))));
    // The kernel says that this one is empty.
    if Path::new("/proc/self/status").exists() {
        let few = Reading::up_to(10).read(Path::new("/proc/self/status"));
        assert!(matches!(few, Err(ReadError::TooLarge(10))));
        let whole = Reading::up_to(1 << 20).read_text(Path::new("/proc/self/status"));
        assert!(whole.unwrap().contains("Pid:"));
    }
}

#[test]
fn c5_other_files_than_regular_ones_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    for path in [at("pipe"), at("socket"), "/dev/zero".into()] {
        let refused = SMALL.read(&path).unwrap_err();
        assert_eq!(refused.to_string(), "it is not a regular file", "{path:?}");
    }
    let or_null = SMALL.from_sources(Sources::RegularOrNull);
    assert_eq!(or_null.read(Path::new("/dev/null")).unwrap().len(), 0);
    for (reading, device) in [(SMALL, "/dev/null"), (or_null, "/dev/zero")] {
        let refused = reading.read(Path::new(device)).unwrap_err();
        assert!(matches!(refused, ReadError::Special), "{device}: {refused}");
    }
    let refused = SMALL.read(directory.path()).unwrap_err();
    assert!(matches!(refused, ReadError::Directory), "{refused}");
}

#[test]
fn c5_a_device_or_pipe_that_was_named_is_read_up_to_the_limit() {
    let named = SMALL.from_sources(Sources::Any);
    let endless = named.read(Path::new("/dev/zero"));
    assert!(matches!(endless, Err(ReadError::TooLarge(1000))));
    assert_eq!(named.read(Path::new("/dev/null")).unwrap().len(), 0);
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut end = File::options().write(true).open(&pipe).unwrap();
            end.write_all(b"from a pipe").unwrap();
        });
        assert_eq!(&named.read(&pipe).unwrap()[..], b"from a pipe");
    });
}

#[test]
fn m3_without_links_a_link_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    std::fs::write(&file, "here").unwrap();
    symlink(&file, &link).unwrap();
    assert_eq!(&SMALL.read(&link).unwrap()[..], b"here");
    let refused = SMALL.without_links().read(&link).unwrap_err();
    assert!(matches!(refused, ReadError::Link), "{refused}");
}

#[test]
fn c1_root_does_not_read_a_file_that_others_may_change() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o646)).unwrap();
    let refused = SMALL.kept_by(Trust::of_root()).read(&file).unwrap_err();
    assert!(matches!(refused, ReadError::Untrusted(_)), "{refused}");
    // The rule does not bind another user.
    SMALL.kept_by(Trust::of_user(1000)).read(&file).unwrap();
}
