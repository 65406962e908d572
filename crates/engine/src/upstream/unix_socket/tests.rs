//! Files that change between the look and the connection.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use codex_network_policy::UnixSocketPath;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;

use super::*;
use crate::socket_file::{SocketLookup, path_of};

/// A folder, by its canonical name.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        let folder = fs::canonicalize(self.0.path()).expect("it is there");
        folder.join(name)
    }

    /// A socket whose listener sends its name to every client.
    fn listen(&self, name: &'static str) -> PathBuf {
        let path = self.path(name);
        let listener = UnixListener::bind(&path).expect("a socket");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.try_write(name.as_bytes());
            }
        });
        path
    }
}

fn plain(path: &std::path::Path) -> UnixSocketPath {
    path_of(path).expect("an absolute path")
}

fn find(path: &std::path::Path) -> Result<SocketFile, SocketError> {
    SocketFile::find(&plain(path))
}

/// The name of the listener that answers.
async fn hear(stream: Result<UnixStream, SocketError>) -> Result<String, SocketError> {
    let mut said = String::new();
    stream?
        .read_to_string(&mut said)
        .await
        .expect("the listener speaks");
    Ok(said)
}

async fn connect(socket: &SocketFile) -> Result<String, SocketError> {
    hear(dial(socket).await).await
}

#[tokio::test]
async fn h10_a_file_is_known_by_its_canonical_path() {
    let folder = Folder::new();
    let real = folder.listen("real");
    symlink("real", folder.path("link")).expect("a link");
    symlink("link", folder.path("second")).expect("a link");
    let socket = find(&folder.path("second")).expect("a socket");
    assert_eq!(socket.path(), &plain(&real));
    assert_eq!(socket.identity(), find(&real).expect("a socket").identity());
    assert_eq!(connect(&socket).await.expect("it listens"), "real");
}

#[tokio::test]
async fn h10_what_is_connected_is_what_was_found_whatever_the_link_says_by_then() {
    let folder = Folder::new();
    let (first, second) = (folder.listen("first"), folder.listen("second"));
    let link = folder.path("link");
    symlink(&first, &link).expect("a link");
    let socket = find(&link).expect("a socket");
    fs::remove_file(&link).expect("a link");
    symlink(&second, &link).expect("a link");
    assert_eq!(connect(&socket).await.expect("it listens"), "first");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn h10_what_is_connected_is_what_was_found_under_whatever_name_it_has_by_then() {
    let folder = Folder::new();
    let (first, second) = (folder.listen("first"), folder.listen("second"));
    let socket = find(&first).expect("a socket");
    fs::rename(&second, &first).expect("the first is gone");
    // Its listener still runs; its name is gone.
    assert_eq!(connect(&socket).await.expect("it listens"), "first");
    let other = find(&first).expect("a socket");
    assert_ne!(other.identity(), socket.identity());
    assert_eq!(connect(&other).await.expect("it listens"), "second");
}

/// The method for systems without `O_PATH`.
#[tokio::test]
async fn h10_by_its_path_a_file_is_used_only_while_it_is_the_same() {
    let folder = Folder::new();
    let (first, second) = (folder.listen("first"), folder.listen("second"));
    symlink(&first, folder.path("link")).expect("a link");
    let socket = SocketFile::find_by_path(&folder.path("link")).expect("there");
    assert_eq!(socket.path(), &plain(&first));
    assert_eq!(connect(&socket).await.expect("it listens"), "first");
    fs::rename(&second, &first).expect("the first is gone");
    let replaced = connect(&socket).await.expect_err("another file");
    assert!(matches!(replaced, SocketError::Replaced), "{replaced}");
}

#[tokio::test]
async fn h10_what_is_no_socket_is_told_apart() {
    let folder = Folder::new();
    let dead = folder.path("dead");
    drop(UnixListener::bind(&dead).expect("a socket"));
    let socket = find(&dead).expect("the file stays");
    let refused = connect(&socket).await.expect_err("no listener");
    assert!(
        matches!(refused, SocketError::Connect(ConnectError::Refused)),
        "{refused:?}"
    );
    fs::write(folder.path("file"), "").expect("a file");
    fs::create_dir(folder.path("folder")).expect("a folder");
    symlink("loop", folder.path("loop")).expect("a link");
    symlink("nowhere", folder.path("dangling")).expect("a link");
    for (name, is_there) in [
        ("file", true),
        ("folder", true),
        ("loop", false),
        ("dangling", false),
        ("missing", false),
        ("file/below", false),
    ] {
        let error = find(&folder.path(name)).expect_err(name);
        let told_apart = match error {
            SocketError::NotASocket => is_there,
            SocketError::Missing => !is_there,
            _ => false,
        };
        assert!(told_apart, "{name}: {error:?}");
    }
}

/// A socket's address holds about a hundred bytes; a path may be longer.
#[tokio::test]
async fn h10_a_long_path_is_reached_by_its_file_or_said_to_be_too_long() {
    let folder = Folder::new();
    let real = folder.listen("real");
    let deep = folder.path(&"d".repeat(200));
    fs::create_dir(&deep).expect("a folder");
    let long = deep.join("moved");
    fs::rename(&real, &long).expect("a longer name");
    if cfg!(target_os = "linux") {
        let socket = find(&long).expect("a socket");
        assert_eq!(connect(&socket).await.expect("it listens"), "real");
    }
    let socket = SocketFile::find_by_path(&long).expect("there");
    let error = connect(&socket).await.expect_err("no address");
    assert!(matches!(error, SocketError::TooLong), "{error:?}");
}

#[tokio::test]
async fn h10_entries_that_lead_to_the_same_file_are_found() {
    let folder = Folder::new();
    let real = folder.listen("real");
    folder.listen("other");
    symlink("real", folder.path("link")).expect("a link");
    symlink("other", folder.path("elsewhere")).expect("a link");
    let entries: Vec<_> = ["link", "elsewhere", "missing", "real"]
        .map(|name| plain(&folder.path(name)))
        .into();
    let lookup = SocketLookup::at(&plain(&real), entries.clone());
    assert_eq!(lookup.aliases, [entries[0].clone(), entries[3].clone()]);
    let nothing = SocketLookup::at(&plain(&folder.path("missing")), entries);
    assert!(nothing.found.is_err() && nothing.aliases.is_empty());
}
