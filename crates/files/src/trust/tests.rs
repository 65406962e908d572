//! The rule as a table, and on real directories.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use FileKind::{Device, Directory, File, Link};
use Writer::{Everyone, Group, User};
use tempfile::TempDir;

use super::*;

const ROOT: u32 = 0;
const ALICE: u32 = 1000;
const BOB: u32 = 1001;
const STAFF: u32 = 50;

/// A row: the kind, mode, owner and group; whether others may add names to its directory; and who
/// may change it for root and for Alice.
type Row = (
    FileKind,
    u32,
    u32,
    u32,
    bool,
    Option<Writer>,
    Option<Writer>,
);

const ROWS: [Row; 27] = [
    (File, 0o644, ROOT, ROOT, false, None, None),
    (File, 0o600, ROOT, STAFF, false, None, None),
    (File, 0o444, ROOT, BOB, false, None, None),
    (
        File,
        0o646,
        ROOT,
        ROOT,
        false,
        Some(Everyone),
        Some(Everyone),
    ),
    (
        File,
        0o666,
        ROOT,
        STAFF,
        false,
        Some(Everyone),
        Some(Everyone),
    ),
    (
        File,
        0o664,
        ROOT,
        STAFF,
        false,
        Some(Group(STAFF)),
        Some(Group(STAFF)),
    ),
    // An access control list looks like this too, so root refuses it.
    (File, 0o664, ROOT, ROOT, false, Some(Group(ROOT)), None),
    (
        File,
        0o664,
        ROOT,
        ALICE,
        false,
        Some(Group(ALICE)),
        Some(Group(ALICE)),
    ),
    (File, 0o644, ALICE, ALICE, false, Some(User(ALICE)), None),
    (File, 0o000, ALICE, ALICE, false, Some(User(ALICE)), None),
    // Her own group has no other member.
    (File, 0o664, ALICE, ALICE, false, Some(User(ALICE)), None),
    (
        File,
        0o664,
        ALICE,
        STAFF,
        false,
        Some(User(ALICE)),
        Some(Group(STAFF)),
    ),
    (
        File,
        0o646,
        ALICE,
        ALICE,
        false,
        Some(User(ALICE)),
        Some(Everyone),
    ),
    (
        File,
        0o644,
        BOB,
        ALICE,
        false,
        Some(User(BOB)),
        Some(User(BOB)),
    ),
    (Directory, 0o755, ROOT, ROOT, false, None, None),
    (
        Directory,
        0o755,
        BOB,
        BOB,
        false,
        Some(User(BOB)),
        Some(User(BOB)),
    ),
    (
        Directory,
        0o775,
        ALICE,
        ALICE,
        false,
        Some(User(ALICE)),
        None,
    ),
    (
        Directory,
        0o777,
        ROOT,
        ROOT,
        false,
        Some(Everyone),
        Some(Everyone),
    ),
    (
        Directory,
        0o2775,
        ROOT,
        STAFF,
        false,
        Some(Group(STAFF)),
        Some(Group(STAFF)),
    ),
    // As in /tmp: others cannot replace files of other users.
    (Directory, 0o1777, ROOT, ROOT, false, None, None),
    (Directory, 0o1775, ROOT, STAFF, false, None, None),
    (
        Directory,
        0o1777,
        BOB,
        BOB,
        false,
        Some(User(BOB)),
        Some(User(BOB)),
    ),
    // The sticky bit of a file protects nothing.
    (
        File,
        0o1646,
        ROOT,
        ROOT,
        false,
        Some(Everyone),
        Some(Everyone),
    ),
    // The owner of a link can replace it only in a shared directory.
    (Link, 0o777, BOB, BOB, false, None, None),
    (
        Link,
        0o777,
        BOB,
        BOB,
        true,
        Some(User(BOB)),
        Some(User(BOB)),
    ),
    (Link, 0o777, ROOT, ROOT, true, None, None),
    (Device, 0o666, ROOT, ROOT, false, None, None),
];

#[test]
fn c1_owner_group_and_mode_decide_who_may_change_a_place() {
    for (kind, mode, uid, gid, in_shared, root, alice) in ROWS {
        let node = FileFacts {
            kind,
            mode,
            uid,
            gid,
        };
        for (user, wanted) in [(ROOT, root), (ALICE, alice)] {
            let trusts = |uid| uid == ROOT || uid == user;
            let found = Trust::of_user(user).judge(node, in_shared, trusts);
            // The one difference between systems.
            if cfg!(target_os = "macos") && wanted == Some(Group(ROOT)) {
                continue;
            }
            assert_eq!(
                found, wanted,
                "{node:?} for {user}, in a shared place: {in_shared}"
            );
        }
    }
}

/// A directory that passes, with `a/b/file` in it.
fn tree() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    for place in [&below, &directory.path().join("a")] {
        set(place, 0o755);
    }
    let file = below.join("file");
    fs::write(&file, "").unwrap();
    set(&file, 0o644);
    (directory, file)
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn verdict(path: &Path) -> Result<(), String> {
    let verdict = Trust::of_process().check(path);
    verdict.map_err(|error| error.to_string())
}

#[test]
fn c1_a_place_is_judged_with_every_directory_above_it() {
    let (directory, file) = tree();
    assert_eq!(verdict(&file), Ok(()));
    for (place, mode) in [("a/b/file", 0o646), ("a/b", 0o777), ("a", 0o757)] {
        let place = directory.path().join(place);
        let before = place.metadata().unwrap().mode();
        set(&place, mode);
        let wanted = format!(
            "{0} may be changed by every user (mode {mode:04o}); to repair: chmod go-w {0}",
            place.display()
        );
        assert_eq!(verdict(&file), Err(wanted));
        // A file that does not exist does not pass either.
        assert_eq!(
            verdict(&file.with_file_name("none")).is_err(),
            place != file
        );
        set(&place, before);
    }
    set(&directory.path().join("a"), 0o1777);
    assert_eq!(verdict(&file), Ok(()), "in a directory like /tmp");
}

#[test]
fn c1_a_place_of_another_user_does_not_pass_and_neither_does_what_is_below() {
    if !has_root() {
        return;
    }
    let (directory, file) = tree();
    let place = directory.path().join("a");
    chown(&place, Some(BOB), None).unwrap();
    let wanted = format!(
        "{0} belongs to user {BOB}, who may change it; to repair: chown root {0}",
        place.display()
    );
    assert_eq!(verdict(&file), Err(wanted));
    Trust::of_user(BOB).check(&file).unwrap();
}

#[test]
fn m5_an_own_directory_must_not_be_shared_even_with_the_sticky_bit() {
    let directory = tempfile::tempdir().unwrap();
    for (mode, passes) in [
        (0o755, true),
        (0o1755, true),
        (0o777, false),
        (0o1777, false),
    ] {
        set(directory.path(), mode);
        let verdict = Trust::of_process().check_own_directory(directory.path());
        assert_eq!(verdict.is_ok(), passes, "{mode:o}");
    }
}

#[test]
fn c1_a_link_and_its_target_are_both_checked() {
    let (directory, file) = tree();
    let (other, _) = tree();
    let link = other.path().join("a/link");
    let relative = other.path().join("a/b/relative");
    symlink(&file, &link).unwrap();
    symlink("../link", &relative).unwrap();
    for path in [&link, &relative, &other.path().join("a/b/../link")] {
        assert_eq!(verdict(path), Ok(()), "{path:?}");
        for place in [directory.path().join("a"), other.path().join("a")] {
            set(&place, 0o777);
            assert!(verdict(path).is_err(), "{path:?} through {place:?}");
            set(&place, 0o755);
        }
    }
    let around = other.path().join("around");
    symlink("around", &around).unwrap();
    let refused = verdict(&around).unwrap_err();
    assert!(
        refused.starts_with("cannot see who may change"),
        "{refused}"
    );
}

#[test]
fn c1_a_link_of_another_user_in_a_shared_directory_does_not_pass() {
    if !has_root() {
        return;
    }
    let (directory, file) = tree();
    let shared = directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    set(&shared, 0o1777);
    let link = shared.join("link");
    symlink(&file, &link).unwrap();
    assert_eq!(verdict(&link), Ok(()));
    std::os::unix::fs::lchown(&link, Some(BOB), None).unwrap();
    assert!(verdict(&link).is_err());
}

#[test]
fn c1_an_open_descriptor_is_not_checked() {
    let (_directory, file) = tree();
    set(&file, 0o666);
    let held = fs::File::open(&file).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&held);
    assert_eq!(verdict(Path::new(&format!("/dev/fd/{number}"))), Ok(()));
    assert!(verdict(&file).is_err());
}

#[test]
fn c1_every_directory_above_a_place_can_be_inspected() {
    let (directory, file) = tree();
    set(&directory.path().join("a"), 0o777);
    set(&file, 0o646);
    let found = Trust::of_process().inspect(&file).unwrap();
    let faults: Vec<_> = found
        .iter()
        .filter_map(|place| place.fault.as_ref())
        .map(|fault| fault.path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(faults, ["a", "file"]);
    assert_eq!(found[0].path, Path::new("/"));
}

#[test]
fn c6_a_repair_command_quotes_a_path_as_one_word() {
    assert_eq!(as_typed(Path::new("/etc/a-b.toml")), "/etc/a-b.toml");
    assert_eq!(as_typed(Path::new("/etc/a b;c")), "'/etc/a b;c'");
    assert_eq!(as_typed(Path::new("/etc/it's")), r"'/etc/it'\''s'");
}

/// Whether root runs the test. If not, says so in the line that `.ci/tests` counts.
fn has_root() -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test");
        let _ = writeln!(io::stderr(), "cannot run here: {test}: needs root");
    }
    is_root
}
