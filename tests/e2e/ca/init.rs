//! `init`, and how the daemon uses its files.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use e2e::daemon::{Config, Daemon};
use e2e::program::{Program, Run};

use super::{daemon_in, fingerprint, init, set, shown};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").mode() & 0o7777
}

fn files(state: &Path) -> (PathBuf, PathBuf) {
    (state.join("ca.pem"), state.join("ca.key"))
}

/// The fingerprint in the output of `init`.
fn reported(run: &Run) -> String {
    let (_, rest) = run
        .succeeded()
        .stdout
        .split_once("fingerprint  SHA-256 ")
        .unwrap_or_else(|| panic!("{run:?}"));
    rest.lines().next().expect("a line").to_owned()
}

#[test]
fn l5_init_creates_a_ca_under_any_umask_and_prints_the_next_steps() {
    for umask in ["077", "000", "022"] {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let run = Program::new("sh")
            .args(["-c", r#"umask "$1"; shift; exec "$@""#, "sh", umask])
            .arg(e2e::shipped::proxy())
            .args(["init", "-c", &set("daemon.state_dir", &state)])
            .run();
        let (certificate, key) = files(&state);
        run.succeeded()
            .says("made a CA")
            .says(&certificate.to_string_lossy())
            .says(&key.to_string_lossy())
            .says("proxyctl reload")
            .says("proxyctl ca install");
        assert_eq!(mode(&state), 0o755, "umask {umask}");
        assert_eq!(mode(&certificate), 0o644, "umask {umask}");
        assert_eq!(mode(&key), 0o600, "umask {umask}");
        assert_eq!(std::fs::read_dir(&state).expect("it is there").count(), 2);
    }
}

#[test]
fn l5_a_second_init_changes_nothing_and_succeeds() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = init(directory.path());
    let again = init(directory.path());
    again.succeeded().says("a valid CA exists already");
    assert_eq!(reported(&first), reported(&again));
}

#[test]
fn m3_init_and_the_daemon_refuse_an_unusable_ca_with_the_same_message() {
    type Bend = fn(&Path, &Path);
    let cases: [(Bend, &str); 6] = [
        (
            |_, key| {
                std::fs::rename(key, key.with_extension("moved")).expect("it is ours");
                symlink(key.with_extension("moved"), key).expect("a link");
            },
            "ca.key is a symlink",
        ),
        (
            |certificate, _| {
                std::fs::rename(certificate, certificate.with_extension("moved"))
                    .expect("it is ours");
                symlink(certificate.with_extension("moved"), certificate).expect("a link");
            },
            "ca.pem is a symlink",
        ),
        (
            |certificate, _| std::fs::remove_file(certificate).expect("it is ours"),
            "ca.key is there and",
        ),
        (
            |_, key| std::fs::remove_file(key).expect("it is ours"),
            "ca.pem is there and",
        ),
        (
            |_, key| {
                let open = std::fs::Permissions::from_mode(0o640);
                std::fs::set_permissions(key, open).expect("it is ours");
            },
            "has mode 0640",
        ),
        (
            |_, key| std::fs::write(key, "nothing").expect("it is ours"),
            "openssl pkcs8",
        ),
    ];
    for (bend, sentence) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        init(directory.path()).succeeded();
        let (certificate, key) = files(directory.path());
        bend(&certificate, &key);
        let run = init(directory.path());
        run.failed().says(sentence);
        assert_eq!(run.stderr.trim_end().lines().count(), 1, "{run:?}");
        let exit = Daemon::launch()
            .config(&Config::example())
            .arg("-c")
            .arg(set("daemon.state_dir", directory.path()))
            .try_start()
            .err()
            .expect("a refusal");
        assert_eq!(exit.code, Some(78));
        assert!(exit.text().contains(sentence), "{}", exit.text());
    }
}

/// A configuration with the CA's files in two directories that do not exist yet.
fn elsewhere(directory: &Path) -> (Config, PathBuf, PathBuf) {
    let certificate = directory.join("here/cert.pem");
    let key = directory.join("there/key.pem");
    let path = |path: &Path| serde_json::json!(path).to_string();
    let config = Config::example()
        .set("network.mitm", "ca_cert_path", &path(&certificate))
        .set("network.mitm", "ca_key_path", &path(&key));
    (config, certificate, key)
}

#[test]
fn m3_missing_configured_ca_files_are_created_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let (config, certificate, key) = elsewhere(directory.path());
    let daemon = Daemon::start(&config);
    assert_eq!((mode(&certificate), mode(&key)), (0o644, 0o600));
    daemon.wait_for_log(|line| {
        line.level() == Some("WARN") && line.message_starts_with("made the CA of ca_cert_path")
    });
    let first = fingerprint(&daemon);
    assert_eq!(shown(&daemon)["kept_at"], serde_json::json!(certificate));
    drop(daemon);
    let daemon = Daemon::start(&config);
    assert_eq!(fingerprint(&daemon), first);
    let made = daemon.logs();
    let made = made.iter().any(|line| line.message_contains("made the CA"));
    assert!(!made, "a second one");
}

#[test]
fn m3_half_a_pair_and_an_unwritable_directory_are_errors() {
    type Bend = fn(&Path);
    let cases: [(Bend, &str); 2] = [
        (
            |directory| std::fs::remove_file(directory.join("there/key.pem")).expect("it is ours"),
            "cert.pem is there and",
        ),
        (
            |directory| {
                for name in ["here", "there"] {
                    std::fs::remove_dir_all(directory.join(name)).expect("it is ours");
                    std::fs::write(directory.join(name), "").expect("a file of ours");
                }
            },
            "the CA of ca_cert_path and ca_key_path does not exist and cannot be made: ",
        ),
    ];
    for (bend, sentence) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let (config, ..) = elsewhere(directory.path());
        drop(Daemon::start(&config));
        bend(directory.path());
        let exit = Daemon::launch().config(&config).try_start();
        let exit = exit.err().expect("a refusal");
        assert_eq!(exit.code, Some(78));
        assert!(exit.text().contains(sentence), "{}", exit.text());
    }
}

#[test]
fn m3_init_creates_the_configured_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let (config, certificate, key) = elsewhere(directory.path());
    let file = directory.path().join("config.toml");
    std::fs::write(&file, config.write(directory.path())).expect("a new file");
    let run = Program::new(e2e::shipped::proxy())
        .args(["init", "--config"])
        .arg(&file)
        .run();
    assert_eq!(mode(&key), 0o600);
    let daemon = Daemon::start(&config);
    assert_eq!(fingerprint(&daemon), reported(&run));
    assert_eq!(shown(&daemon)["kept_at"], serde_json::json!(certificate));
}

#[test]
fn m3_a_stored_ca_survives_restarts_and_a_temporary_one_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path();
    let first = fingerprint(&daemon_in(state));
    let second = fingerprint(&daemon_in(state));
    assert_ne!(first, second, "made at each start");
    let run = init(state);
    for _ in 0..2 {
        let daemon = daemon_in(state);
        assert_eq!(fingerprint(&daemon), reported(&run));
        assert_eq!(shown(&daemon)["subject"], subject(&run));
    }
}

fn subject(run: &Run) -> &str {
    let (_, rest) = run.stdout.split_once("subject      ").expect("a subject");
    rest.lines().next().expect("a line")
}

#[test]
fn m3_a_temporary_ca_survives_workers_and_reloads_until_one_is_stored() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = daemon_in(directory.path());
    let first = fingerprint(&daemon);
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(fingerprint(&daemon), first, "after a reload");
    let worker = daemon.worker();
    e2e::process::kill_process(worker);
    // The next one serves on the same socket.
    assert_eq!(daemon.admin("GET", "/health", None).status, 200);
    assert_eq!(fingerprint(&daemon), first, "after a worker's death");
    let run = init(directory.path());
    assert_eq!(fingerprint(&daemon), first, "nothing was reloaded");
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(fingerprint(&daemon), reported(&run), "the kept one");
    // A bad pair leaves the good one in force.
    let (_, key) = files(directory.path());
    std::fs::remove_file(key).expect("it is ours");
    let answer = daemon.reload();
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("ca.pem is there and"),
        "{}",
        answer.text()
    );
    assert_eq!(fingerprint(&daemon), reported(&run));
}
