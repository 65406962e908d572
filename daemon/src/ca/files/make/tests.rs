//! Interrupted runs, umasks, and existing files.

use std::os::unix::fs::MetadataExt as _;

use super::super::in_state;
use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn ca() -> Ca {
    Ca::generate(Lifetime::Kept, SystemTime::now()).unwrap()
}

#[test]
fn m3_only_the_owner_reads_the_key_and_all_users_read_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("above/state");
    let paths = in_state(&state);
    make(&paths, SystemTime::now()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&paths.key), 0o600);
    assert_eq!(mode(&paths.certificate), 0o644);
    assert_eq!(mode(&state), 0o755);
    assert_eq!(names(&state), ["ca.key", "ca.pem"], "and nothing else");
}

#[test]
fn l5_a_good_pair_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let paths = in_state(directory.path());
    make(&paths, SystemTime::now()).unwrap();
    let before = [&paths.key, &paths.certificate].map(|path| std::fs::read(path).unwrap());
    let again = make(&paths, SystemTime::now()).unwrap();
    assert!(matches!(again, Made::There(_)), "{again:?}");
    let after = [&paths.key, &paths.certificate].map(|path| std::fs::read(path).unwrap());
    assert_eq!(before, after);
}

/// Stops after each step in turn, and runs again.
#[test]
fn m3_an_interrupted_run_leaves_nothing_or_the_next_one_completes_it() {
    type Step = fn(&PendingFiles<'_>, &Ca) -> Result<(), FileError>;
    let steps: [Step; 5] = [
        |pending, ca| pending.stage_certificate(ca),
        |pending, ca| pending.stage_key(ca),
        |pending, _| pending.publish_key(),
        |pending, _| pending.publish_certificate(),
        |pending, _| {
            std::fs::remove_file(&pending.key).map_err(FileError::io("remove", Path::new("")))
        },
    ];
    for done in 0..=steps.len() {
        let directory = tempfile::tempdir().unwrap();
        let paths = in_state(directory.path());
        let ca = ca();
        let pending = PendingFiles::of(&paths);
        for step in &steps[..done] {
            step(&pending, &ca).unwrap();
        }
        // A daemon that starts meanwhile finds nothing, a refusal, or the pair.
        let meanwhile = read(&paths, SystemTime::now());
        match done {
            0..=2 => assert!(matches!(meanwhile, Ok(None)), "{done}: {meanwhile:?}"),
            3 => assert!(
                matches!(meanwhile, Err(FileError::Lone { .. })),
                "{done}: {meanwhile:?}"
            ),
            _ => assert_eq!(meanwhile.unwrap().as_ref(), Some(&ca), "{done}"),
        }
        let made = make(&paths, SystemTime::now()).unwrap();
        match (done, &made) {
            (0..=2, Made::New(new)) => assert_ne!(*new, ca),
            (3, Made::Completed(completed)) => assert_eq!(*completed, ca),
            (_, Made::There(there)) => assert_eq!(*there, ca),
            _ => panic!("after {done} steps: {made:?}"),
        }
        assert_eq!(names(directory.path()), ["ca.key", "ca.pem"], "{done}");
        assert_eq!(
            read(&paths, SystemTime::now()).unwrap().as_ref(),
            Some(made.ca())
        );
    }
}

#[test]
fn m3_a_write_that_broke_off_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let paths = in_state(directory.path());
    let pending = PendingFiles::of(&paths);
    std::fs::write(&pending.certificate, "half a cert").unwrap();
    std::fs::write(&pending.key, "half a k").unwrap();
    let made = make(&paths, SystemTime::now()).unwrap();
    assert!(matches!(made, Made::New(_)), "{made:?}");
    assert_eq!(names(directory.path()), ["ca.key", "ca.pem"]);
}

#[test]
fn m3_a_lone_half_is_refused_and_left_alone() {
    for lone in ["ca.key", "ca.pem"] {
        let directory = tempfile::tempdir().unwrap();
        let paths = in_state(directory.path());
        make(&paths, SystemTime::now()).unwrap();
        let other = if lone == "ca.key" { "ca.pem" } else { "ca.key" };
        std::fs::remove_file(directory.path().join(other)).unwrap();
        let made = make(&paths, SystemTime::now());
        assert!(matches!(made, Err(FileError::Lone { .. })), "{made:?}");
        assert_eq!(names(directory.path()), [lone]);
    }
}

#[test]
fn m3_a_pending_certificate_of_another_key_completes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let paths = in_state(directory.path());
    make(&paths, SystemTime::now()).unwrap();
    std::fs::remove_file(&paths.certificate).unwrap();
    PendingFiles::of(&paths).stage_certificate(&ca()).unwrap();
    let made = make(&paths, SystemTime::now());
    assert!(matches!(made, Err(FileError::Unfit { .. })), "{made:?}");
    assert!(!paths.certificate.exists());
}

#[test]
fn m3_a_file_that_appears_meanwhile_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let paths = in_state(directory.path());
    let pending = PendingFiles::of(&paths);
    let ca = ca();
    pending.stage_certificate(&ca).unwrap();
    pending.stage_key(&ca).unwrap();
    std::fs::write(&paths.key, "another program's").unwrap();
    assert!(pending.publish_key().is_err());
    assert_eq!(
        std::fs::read(&paths.key).unwrap(),
        b"another program's",
        "as it was"
    );
    assert!(pending.stage_key(&ca).is_err(), "nor is a pending one");
}

#[test]
fn m3_two_runs_at_once_do_not_meet() {
    let directory = tempfile::tempdir().unwrap();
    let paths = in_state(directory.path());
    let _lock = lock(&paths.key).unwrap();
    let made = make(&paths, SystemTime::now());
    assert!(matches!(made, Err(FileError::Busy(_))), "{made:?}");
}

#[test]
fn m3_a_lock_on_the_directory_which_every_user_can_take_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let held = File::open(directory.path()).unwrap();
    let _held = nix::fcntl::Flock::lock(held, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let paths = in_state(directory.path());
    make(&paths, SystemTime::now()).unwrap();
    assert_eq!(names(directory.path()), ["ca.key", "ca.pem"]);
}

#[test]
fn m3_root_makes_no_ca_below_a_directory_of_another_user() {
    if !nix::unistd::Uid::effective().is_root() {
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test");
        let _ = writeln!(io::stderr(), "cannot run here: {test}: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let theirs = directory.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let paths = in_state(&theirs.join("state"));
    std::os::unix::fs::chown(&theirs, Some(12345), None).unwrap();
    let told = make(&paths, SystemTime::now()).unwrap_err().to_string();
    let expected = format!(
        "{} belongs to user 12345, who may change it",
        theirs.display()
    );
    assert!(told.contains(&expected), "{told}");
    assert_eq!(names(&theirs), [""; 0]);
}
