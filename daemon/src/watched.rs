//! The paths whose change means that a file must be read again (SPEC L14).
//!
//! A file is found through directories and links. Each of them is a path of its own here, so that a
//! replaced link, a directory that appears later and a file that is renamed into place are all
//! noticed. Nothing here opens a file or reads its content.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Most paths that are watched. A file takes about five.
pub(crate) const MAX_WATCHED: usize = 192;
/// Links on the way to a file that are followed, as in the kernel (`path_resolution(7)`).
const MAX_LINKS: usize = 40;
/// Entries of a directory that are looked at one by one.
const MAX_ENTRIES: usize = 4096;
/// The kernel's time stamps of files advance in steps of up to 10 ms. Two changes within a step
/// cannot be told apart.
const CLOCK_STEP: Duration = Duration::from_millis(20);
/// How often a stamp is taken again because a file has just changed.
const MAX_TRIES: usize = 10;

/// A path without links in its directories, and its state at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedPath {
    pub(crate) path: PathBuf,
    pub(crate) part: WatchedPart,
    /// Identifies the state. Equal stamps mean that nothing has changed.
    pub(crate) stamp: u64,
}

/// The part of a path that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum WatchedPart {
    /// A file or a link: all of it. A directory: only which one it is.
    Itself = 0,
    /// A directory with the files in it.
    Entries = 1,
}

/// Collects paths.
#[derive(Debug, Default)]
pub(crate) struct Collection(BTreeMap<PathBuf, WatchedPart>);

/// The system's hosts file.
pub(crate) const SYSTEM_HOSTS: &str = "/etc/hosts";

impl Collection {
    /// The files that resolving names needs: a hosts file, or the system's; and `resolv.conf`, if name
    /// servers come from there.
    pub(crate) fn of_resolver(hosts_file: Option<&Path>, resolv_conf: Option<&Path>) -> Self {
        let mut paths = Self::default();
        paths.add(
            hosts_file.unwrap_or(Path::new(SYSTEM_HOSTS)),
            WatchedPart::Itself,
        );
        if let Some(resolv_conf) = resolv_conf {
            paths.add(resolv_conf, WatchedPart::Itself);
        }
        paths
    }

    /// Adds everything on the way to a path, the path included, and on request the entries of the
    /// directory there. Paths beyond [`MAX_WATCHED`] are left out.
    pub(crate) fn add(&mut self, path: &Path, part: WatchedPart) {
        let Ok(path) = std::path::absolute(path) else {
            return;
        };
        let mut ahead: VecDeque<OsString> = names(&path).collect();
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            self.insert(&next, WatchedPart::Itself);
            let Ok(metadata) = next.symlink_metadata() else {
                return;
            };
            if !metadata.is_symlink() {
                at = next;
                continue;
            }
            links += 1;
            let Ok(target) = std::fs::read_link(&next) else {
                return;
            };
            if links > MAX_LINKS {
                return;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).rev() {
                ahead.push_front(name);
            }
        }
        if part == WatchedPart::Entries {
            self.insert(&at, part);
        }
    }

    /// The paths with their state now. Waits until each file's last change is so old that a further
    /// one has another time stamp.
    pub(crate) fn stamped(self) -> Vec<WatchedPath> {
        let mut tries = 0;
        loop {
            let mut youngest = Youngest::default();
            let stamped: Vec<WatchedPath> = self
                .0
                .iter()
                .map(|(path, part)| WatchedPath {
                    path: path.clone(),
                    part: *part,
                    stamp: stamp(path, *part, &mut youngest),
                })
                .collect();
            tries += 1;
            if tries >= MAX_TRIES || !youngest.is_now() {
                return stamped;
            }
            std::thread::sleep(CLOCK_STEP / 2);
        }
    }

    fn insert(&mut self, path: &Path, part: WatchedPart) {
        if let Some(known) = self.0.get_mut(path) {
            *known = part.max(*known);
        } else if self.0.len() < MAX_WATCHED {
            self.0.insert(path.to_owned(), part);
        }
    }
}

impl WatchedPath {
    /// Whether the state differs from the stamp.
    pub(crate) fn has_changed(&self) -> bool {
        stamp(&self.path, self.part, &mut Youngest::default()) != self.stamp
    }

    /// Takes the stamp again.
    pub(crate) fn renew(&mut self) {
        self.stamp = stamp(&self.path, self.part, &mut Youngest::default());
    }
}

/// The latest change of several files, in nanoseconds since 1970.
#[derive(Debug, Default)]
struct Youngest(i128);

impl Youngest {
    fn note(&mut self, metadata: &Metadata) {
        let changed =
            i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        self.0 = self.0.max(changed);
    }

    fn is_now(&self) -> bool {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let Ok(now) = i128::try_from(since.unwrap_or_default().as_nanos()) else {
            return false;
        };
        let step = i128::from(CLOCK_STEP.subsec_nanos());
        (now - step..=now + step).contains(&self.0)
    }
}

/// The names of a path's components: `..` is kept, since it may follow a link.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

fn stamp(path: &Path, part: WatchedPart, youngest: &mut Youngest) -> u64 {
    let mut hasher = DefaultHasher::new();
    state(path, part, youngest).hash(&mut hasher);
    if part == WatchedPart::Entries {
        for (name, state) in entries(path, youngest) {
            (name.as_os_str(), state).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The facts by which two states of a path differ.
#[derive(Hash)]
enum PathState {
    Missing,
    /// Which directory it is. Its times change with each file that is made in it, watched or not.
    Directory(u64, u64),
    /// Device, inode and size, and then the times of the last changes: of the content, and of the
    /// inode (`mtime` and `ctime`).
    File([u64; 3], [i64; 4]),
}

fn state(path: &Path, part: WatchedPart, youngest: &mut Youngest) -> PathState {
    state_of(path.symlink_metadata(), part, youngest)
}

fn state_of(
    metadata: std::io::Result<Metadata>,
    part: WatchedPart,
    youngest: &mut Youngest,
) -> PathState {
    let Ok(metadata) = metadata else {
        return PathState::Missing;
    };
    if metadata.is_dir() {
        if part == WatchedPart::Entries {
            youngest.note(&metadata);
        }
        return PathState::Directory(metadata.dev(), metadata.ino());
    }
    youngest.note(&metadata);
    PathState::File(
        [metadata.dev(), metadata.ino(), metadata.size()],
        [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ],
    )
}

/// The files of a directory, in the order of their names.
fn entries(directory: &Path, youngest: &mut Youngest) -> BTreeMap<OsString, PathState> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let states = entries.take(MAX_ENTRIES).map(|entry| {
        // By its directory, which is faster than by its path.
        let state = state_of(entry.metadata(), WatchedPart::Itself, youngest);
        (entry.file_name(), state)
    });
    states.collect()
}

/// The directory of a path, and its name in it.
pub(crate) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn collected(path: &Path, part: WatchedPart) -> Vec<WatchedPath> {
        let mut collection = Collection::default();
        collection.add(path, part);
        collection.stamped()
    }

    fn changed(watched: &[WatchedPath]) -> Vec<&Path> {
        let changed = watched.iter().filter(|watched| watched.has_changed());
        changed.map(|watched| watched.path.as_path()).collect()
    }

    #[test]
    fn l14_the_way_to_a_file_leads_through_its_links_and_to_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        let file = root.join("etc/resolv.conf");
        let below = |watched: &[WatchedPath]| {
            let below = watched
                .iter()
                .filter_map(|it| it.path.strip_prefix(&root).ok());
            let below = below.map(|path| path.to_str().unwrap().to_owned());
            below.filter(|path| !path.is_empty()).collect::<Vec<_>>()
        };
        let watched = collected(&file, WatchedPart::Itself);
        assert_eq!(below(&watched), ["etc", "etc/resolv.conf", "run"]);
        assert!(changed(&watched).is_empty());
        std::fs::create_dir_all(root.join("run/resolve")).unwrap();
        assert_eq!(changed(&watched), [root.join("run")]);
        let watched = collected(&file, WatchedPart::Itself);
        let way = [
            "etc",
            "etc/resolv.conf",
            "run",
            "run/resolve",
            "run/resolve/stub.conf",
        ];
        assert_eq!(below(&watched), way);
        // Another file in a directory on the way says nothing.
        std::fs::write(root.join("run/resolve/other"), "").unwrap();
        assert!(changed(&watched).is_empty());
        std::fs::write(root.join("run/resolve/stub.conf"), "one").unwrap();
        assert_eq!(changed(&watched), [root.join(way[4])]);
    }

    #[test]
    fn l14_each_way_to_change_a_file_changes_a_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let file = root.join("hosts");
        std::fs::write(&file, "one").unwrap();
        let watched = collected(&file, WatchedPart::Itself);
        // In place, with the same size: the stamp was taken a step of the clock after the file.
        std::fs::write(&file, "two").unwrap();
        assert_eq!(changed(&watched), [file.as_path()]);
        let watched = collected(&file, WatchedPart::Itself);
        std::fs::write(root.join("new"), "two").unwrap();
        std::fs::rename(root.join("new"), &file).unwrap();
        assert_eq!(changed(&watched), [file.as_path()]);
        let watched = collected(&file, WatchedPart::Itself);
        std::fs::remove_file(&file).unwrap();
        symlink("elsewhere", &file).unwrap();
        assert_eq!(changed(&watched), [file.as_path()]);
    }

    #[test]
    fn l14_a_directory_of_certificates_changes_with_each_file_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::write(root.join("a.pem"), "a").unwrap();
        let watched = collected(&root, WatchedPart::Entries);
        std::fs::write(root.join("a.pem"), "b").unwrap();
        assert_eq!(changed(&watched), [root.as_path()]);
        let watched = collected(&root, WatchedPart::Entries);
        std::fs::write(root.join("b.pem"), "b").unwrap();
        assert_eq!(changed(&watched), [root.as_path()]);
    }

    #[test]
    fn l14_links_in_a_circle_and_many_files_have_an_end() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert!(collected(&directory.path().join("a"), WatchedPart::Itself).len() < 20);
        let mut collection = Collection::default();
        for number in 0..2 * MAX_WATCHED {
            collection.add(
                &directory.path().join(number.to_string()),
                WatchedPart::Itself,
            );
        }
        assert_eq!(collection.stamped().len(), MAX_WATCHED);
    }
}
