//! Attempts by other processes of this machine, and by clients, to inspect or change the proxy: each
//! is made for real. The attempts of the worker are in
//! `daemon/src/worker/sandbox/linux/tests.rs`, and for the installed service in
//! `tests/system/privilege.rs`.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, Signal, StartScript};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::process::command_line;
use e2e::program::{Program, Run};
use e2e::wait::{TIMEOUT, poll};
use tempfile::TempDir;

/// An account that owns nothing, by number.
const NOBODY: &str = "65534";
/// In the environment of every process that is started here.
const SECRET: &str = "hunter2-of-the-starter";

/// Runs a shell script as an ordinary user: the current one, or `nobody` if that is root.
fn as_ordinary_user(script: &str) -> Run {
    if machine::is_root() {
        Program::new("setpriv")
            .args([
                "--clear-groups",
                "--reuid",
                NOBODY,
                "--regid",
                NOBODY,
                "sh",
                "-c",
                script,
            ])
            .current_dir(Path::new("/"))
            .run()
    } else {
        Program::new("sh").args(["-c", script]).run()
    }
}

/// A process that is killed when this value is dropped.
struct Process(Child);

impl Process {
    /// Starts the program as the user of [`as_ordinary_user`].
    fn of_ordinary_user(program: &Path, arguments: &[&str]) -> Self {
        let mut command = if machine::is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--clear-groups", "--reuid", NOBODY, "--regid", NOBODY]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .args(arguments)
            .env("SECRET_OF_STARTER", SECRET)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Attempts by another process of the same user, with the expected error of each. `PID` stands
/// for the target process.
const LOOKS: [(&str, &str); 6] = [
    ("memory", "cat /proc/PID/mem"),
    ("environment", "cat /proc/PID/environ"),
    ("descriptors", "ls /proc/PID/fd/"),
    ("maps", "cat /proc/PID/maps"),
    ("root directory", "ls -L /proc/PID/root"),
    ("threads' memory", "cat /proc/PID/task/PID/mem"),
];

#[track_caller]
fn assert_closed(role: &str, pid: u32) {
    for (what, look) in LOOKS {
        let run = as_ordinary_user(&look.replace("PID", &pid.to_string()));
        assert!(run.code != Some(0), "{role}: {what}: {run:?}");
        let refused = run.stderr.contains("Permission denied");
        assert!(refused, "{role}: {what}: {run:?}");
        assert!(!run.stdout.contains(SECRET), "{role}: {what}");
    }
    let limits =
        std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("every user may read this");
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(core, Some(vec!["0", "0", "bytes"]), "{role}");
    // Only root can read root's processes, so only a test run by root sees it.
    if let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) {
        let environment = String::from_utf8_lossy(&environment);
        let has_it = environment.contains(SECRET);
        assert_eq!(has_it, !["loader", "worker"].contains(&role), "{role}");
    }
}

/// A copy of the program that all users may run, in a directory that all may read.
fn program_for_all() -> (TempDir, std::path::PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let program = directory.path().join("codex-network-proxy");
    // Another program writes the file: this process may be forking at this moment (ETXTBSY).
    let copy = "cp \"$0\" \"$1\" && chmod 755 \"$1\" && chmod 777 \"${1%/*}\"";
    Program::new("sh")
        .args(["-c", copy, e2e::shipped::proxy()])
        .arg(&program)
        .run()
        .succeeded();
    (directory, program)
}

fn make_pipe(path: &Path) {
    let _ = std::fs::remove_file(path);
    let run = Program::new("mkfifo").args(["-m", "666"]).arg(path).run();
    run.succeeded();
}

/// The monitor, the worker, and a loader that waits for a pipe, all of one ordinary user.
#[test]
fn l5_other_processes_of_its_user_cannot_inspect_any_role() {
    let other = Process::of_ordinary_user(Path::new("sleep"), &["600"]);
    let look = format!("cat /proc/{0}/environ && ls /proc/{0}/fd/", other.0.id());
    // It may not have become that user yet.
    let seen = poll(TIMEOUT, || {
        let run = as_ordinary_user(&look);
        run.stdout.contains(SECRET).then_some(())
    });
    seen.expect("the attempt works on an unprotected process");

    let (_directory, program) = program_for_all();
    let wrapped = StartScript::as_ordinary_user(&program);
    let daemon = Daemon::launch()
        .program(wrapped.path())
        .config(&Config::example())
        .env("SECRET_OF_STARTER", SECRET)
        .start();
    assert_closed("monitor", daemon.pid());
    assert_closed("worker", daemon.worker());
    make_pipe(daemon.config_path());
    daemon.signal(Signal::SIGHUP);
    let _pipe = File::options()
        .write(true)
        .open(daemon.config_path())
        .expect("a pipe that is read");
    let children = daemon.children();
    let loader = children
        .iter()
        .find(|pid| command_line(**pid).ends_with("load"));
    assert_closed("loader", *loader.expect("a loader"));
}

#[test]
fn l5_other_processes_of_their_user_cannot_inspect_init_and_check() {
    let (directory, program) = program_for_all();
    for role in ["init", "check"] {
        let pipe = directory.path().join(role);
        make_pipe(&pipe);
        let pipe_name = pipe.to_str().expect("a path in UTF-8");
        let process = Process::of_ordinary_user(&program, &[role, "--config", pipe_name]);
        let _pipe = File::options()
            .write(true)
            .open(&pipe)
            .expect("a pipe that is read");
        assert_closed(role, process.0.id());
    }
}

#[test]
fn m9_a_secret_reaches_the_worker_but_no_roles_environment() {
    let config = Config::example().append(
        r#"
        [network.mitm.hooks.api]
        host = "allowed.test"
        methods = ["GET"]
        path_prefixes = ["/"]
        action = ["auth"]

        [network.mitm.actions.auth]
        inject_request_headers = [{ name = "Authorization", secret_env_var = "SECRET_OF_STARTER" }]
        "#,
    );
    let daemon = Daemon::launch()
        .config(&config)
        .env("SECRET_OF_STARTER", SECRET)
        .start();
    // A reload looks the user up again.
    assert_eq!(daemon.reload().status, 200);
    let environment = std::fs::read(format!("/proc/{}/environ", daemon.worker()));
    let environment = environment.unwrap_or_default();
    assert!(!String::from_utf8_lossy(&environment).contains(SECRET));
}

#[test]
fn m3_another_user_can_neither_read_nor_change_the_proxys_files() {
    if !machine::has(Need::Root) {
        return;
    }
    let daemon = Daemon::start(&Config::example());
    let state = daemon.directory().join("state");
    crate::ca::init(&state).succeeded();
    assert_eq!(daemon.reload().status, 200);
    let open = Program::new("chmod")
        .arg("755")
        .arg(daemon.directory())
        .run();
    open.succeeded();
    let (state, configured) = (state.display(), daemon.directory().display());
    for attempt in [
        format!("cat '{state}/ca.key'"),
        format!("echo x >'{state}/ca.key'"),
        format!("echo x >'{state}/ca.pem'"),
        format!("echo x >'{state}/new'"),
        format!("mv '{state}/ca.key' '{state}/away'"),
        format!("mv '{state}' '{configured}/away'"),
        format!("rm -f '{state}/ca.pem'"),
        format!("ln -s /etc/passwd '{state}/link'"),
        format!("rm -f '{configured}/control.sock'"),
        format!("echo x >'{configured}/control.sock'"),
        format!("kill -TERM {}", daemon.pid()),
        format!("kill -HUP {}", daemon.pid()),
    ] {
        let run = as_ordinary_user(&attempt);
        let refused =
            run.stderr.contains("ermission denied") || run.stderr.contains("not permitted");
        assert!(run.code != Some(0) && refused, "{attempt}: {run:?}");
    }
    // The certificate is public.
    let public = as_ordinary_user(&format!("cat '{state}'/ca*.pem"));
    assert!(public.stdout.contains("BEGIN CERTIFICATE"), "{public:?}");
    assert_eq!(daemon.reload().status, 200, "and it is unharmed");
}

/// A request of a client, and the status of the answer.
#[test]
fn a2_a_client_cannot_change_a_read_only_proxy() {
    let origin = Origin::start(|_| Answer::text("here"));
    let config = Config::example().set("daemon.admin", "read_only", "true");
    let daemon = Daemon::start(&config);
    let through = |method: &str, url: &str| {
        let request = format!("{method} {url} HTTP/1.1\r\n\r\n");
        Connection::open(daemon.http_addr())
            .exchange(&request)
            .status
    };
    let connect = |authority: &str| {
        Connection::open(daemon.http_addr())
            .connect(authority)
            .status
    };
    let steer = |target: &str, body: &str| daemon.admin("POST", target, Some(body)).status;
    let own = [daemon.http_addr(), daemon.socks_addr(), daemon.admin_addr()];
    assert_eq!(through("GET", &origin.url("allowed.test", "/")), 200);
    assert_eq!(through("GET", &origin.url("blocked.test", "/")), 403);
    for own in own {
        assert_eq!(
            through("GET", &format!("http://{own}/config")),
            403,
            "{own}"
        );
        assert_eq!(
            through("POST", &format!("http://{own}/reload")),
            403,
            "{own}"
        );
        assert_eq!(connect(&own.to_string()), 403, "{own}");
    }
    for (target, body) in [("/mode", r#"{"mode":"full"}"#), ("/reload", "")] {
        assert_eq!(steer(target, body), 403, "{target}");
    }
    assert_eq!(daemon.admin("GET", "/blocked?drain=true", None).status, 403);
}
