//! Sockets passed and messages sent in systemd's protocol, without a systemd (SPEC L8, L9).
//!
//! Except for the test with `systemd-socket-activate`, these need neither root nor a machine: a
//! shell is run first, since only the program itself can know the process id for `LISTEN_PID`.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon, Signal};
use e2e::wait::{TIMEOUT, Watched, poll};
use tempfile::TempDir;

use crate::service::Service;

/// Passes standard input and output on as the first two descriptors.
const HAND_OVER: &str = "exec 3<&0 4>&1 </dev/null >/dev/null; \
    [ \"$LISTEN_FDS\" = 2 ] || exec 4>&-; \
    export LISTEN_PID=$$; exec \"$@\"";

/// The program, started with sockets.
struct Handed {
    child: Child,
    stderr: std::sync::Arc<Watched<String>>,
    folder: TempDir,
    _config: Config,
}

impl Handed {
    /// Starts it with one or two sockets under these names.
    fn start(names: &str, sockets: Vec<OwnedFd>, config: &Config) -> Self {
        let folder = open_folder();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, config.write(folder.path())).expect("the folder is ours");
        let count = sockets.len();
        let mut sockets = sockets.into_iter();
        let mut next = || sockets.next().map_or_else(Stdio::null, Stdio::from);
        let mut child = Command::new("sh")
            .args(["-c", HAND_OVER, "sh", e2e::shipped::proxy(), "--config"])
            .arg(&file)
            .args(["-c", &own_control_socket(&folder)])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LISTEN_FDS", count.to_string())
            .env("LISTEN_FDNAMES", names)
            .stdin(next())
            .stdout(next())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut pipe = child.stderr.take().expect("a piped stderr");
        let stderr = std::sync::Arc::new(Watched::new(String::new()));
        let logged = std::sync::Arc::clone(&stderr);
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                logged.update(|logged| logged.push_str(&String::from_utf8_lossy(&part[..count])));
            }
        });
        Self {
            child,
            stderr,
            folder,
            _config: config.clone(),
        }
    }

    /// Waits until it has logged this.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let seen = self
            .stderr
            .wait(TIMEOUT, |logged| logged.contains(text).then_some(()));
        assert!(seen.is_some(), "not {text:?}, but: {}", self.stderr.lock());
    }

    /// Replaces its configuration and sends it the reload signal.
    fn reload(&self, config: &Config) {
        let folder = self.folder.path();
        std::fs::write(folder.join("config.toml"), config.write(folder)).expect("it is ours");
        let pid = i32::try_from(self.child.id()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGHUP)
            .expect("our own child");
    }

    /// Waits for its end, which must be a failure, and returns its output.
    fn fails(mut self) -> String {
        let status = poll(TIMEOUT, || self.child.try_wait().expect("our own child"));
        let logged = self.stderr.lock().clone();
        assert_eq!(status.and_then(|s| s.code()), Some(1), "{logged}");
        self.wait_for("error");
        self.stderr.lock().clone()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listener() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    (listener.into(), address)
}

/// A folder that the worker can read too. The worker is another user if root runs the tests.
fn open_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().expect("a temporary folder");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("the folder is ours");
    folder
}

/// The default path is for one proxy only.
fn own_control_socket(folder: &TempDir) -> String {
    format!(
        "daemon.control.socket=\"{}/control.sock\"",
        folder.path().display()
    )
}

fn is_the_http_door(address: SocketAddr) {
    let answer = Connection::open(address).exchange(
        "GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[test]
fn l9_sockets_are_served_by_name_in_any_order() {
    for (names, http) in [("http:admin", 0), ("admin:http", 1)] {
        let (first, second) = (listener(), listener());
        let addresses = [first.1, second.1];
        let handed = Handed::start(names, vec![first.0, second.0], &Config::example());
        is_the_http_door(addresses[http]);
        let health = e2e::client::request(addresses[1 - http], "GET", "/health", None);
        assert_eq!(health.text().trim(), "ok", "{names}");
        // No socket for SOCKS5 was handed over, so the proxy binds its address itself.
        handed.wait_for("socks5");
    }
}

#[test]
fn l9_the_name_of_a_socket_must_be_known() {
    for name in [
        "web",
        "unknown",
        "",
        "HTTP",
        "http ",
        "stored-",
        "stored-web",
    ] {
        let (socket, _) = listener();
        let logged = Handed::start(name, vec![socket], &Config::example()).fails();
        assert!(logged.contains("http, socks5"), "{name:?}: {logged}");
        assert_eq!(logged.trim().lines().count(), 1, "{name:?}: {logged}");
    }
}

#[test]
fn l9_two_sockets_of_one_name_are_refused_in_one_sentence() {
    let sockets = vec![listener().0, listener().0];
    let logged = Handed::start("http:http", sockets, &Config::example()).fails();
    assert!(logged.contains("two sockets called \"http\""), "{logged}");
    assert_eq!(logged.trim().lines().count(), 1, "{logged}");
}

/// Clients would wait in the queue of a socket that is not served.
#[test]
fn l6_a_disabled_proxy_answers_so_on_passed_sockets_and_binds_nothing() {
    let (http, socks5) = (listener(), listener());
    let off = Config::example().set("network", "enabled", "false");
    let handed = Handed::start("http:socks5", vec![http.0, socks5.0], &off);
    handed.wait_for("refuses everything at the sockets");
    let answer = Connection::open(http.1)
        .exchange("GET http://allowed.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
    assert_eq!(
        (answer.status, &*answer.text()),
        (503, "network proxy is disabled")
    );
    let target = Socks5Target::name("allowed.test", 80);
    let refused = Connection::open(socks5.1).socks5_connect(&target);
    assert_eq!(refused.reply, 2);
    let logged = handed.stderr.lock().clone();
    assert!(
        !logged.contains("\"admin\""),
        "the third is not bound: {logged}"
    );
}

#[test]
fn l6_the_passed_socket_of_a_disabled_listener_closes_connections() {
    for (name, table, key) in [
        ("socks5", "network", "enable_socks5"),
        ("admin", "daemon.admin", "enabled"),
    ] {
        let (socket, address) = listener();
        // A client that connects before there is a program is served too.
        let mut early = Connection::open(address);
        let off = Config::example().set(table, key, "false");
        let handed = Handed::start(name, vec![socket], &off);
        handed.wait_for(&format!(
            "disable its socket unit too (codex-network-proxy-{name}.socket)"
        ));
        early.expect_closed();
        Connection::open(address).expect_closed();
        handed.wait_for("\"ready\"");
        // A reload can switch it on, and off again.
        for (value, served) in [("true", true), ("false", false)] {
            let config = Config::example().set(table, key, value);
            handed.reload(&config);
            poll(TIMEOUT, || {
                (is_served(name, address) == served).then_some(())
            })
            .unwrap_or_else(|| panic!("{name} is not switched to {value}"));
        }
    }
}

/// Whether this listener answers in its protocol.
fn is_served(name: &str, address: SocketAddr) -> bool {
    let mut client = Connection::open(address);
    let question: &[u8] = match name {
        "admin" => b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        _ => &[5, 1, 0],
    };
    let answered = |client: &mut Connection| !client.read_some().is_empty();
    client.try_send(question).is_ok()
        && std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answered(&mut client)))
            .unwrap_or(false)
}

#[test]
fn l9_a_socket_of_the_wrong_kind_is_refused_in_one_sentence() {
    let folder = TempDir::new().expect("a temporary folder");
    let datagram = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let unix = UnixListener::bind(folder.path().join("socket")).expect("a free path");
    let listening = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listening.local_addr().expect("a bound socket");
    let connected = TcpStream::connect(address).expect("it listens");
    let file = tempfile::tempfile().expect("a temporary file");
    for (socket, wanted) in [
        (
            OwnedFd::from(datagram),
            "not a stream socket (ListenStream=)",
        ),
        (OwnedFd::from(unix), "no internet address"),
        (OwnedFd::from(connected), "does not listen (Accept=no"),
        (OwnedFd::from(file), "the socket \"http\""),
    ] {
        let logged = Handed::start("http", vec![socket], &Config::example()).fails();
        assert!(logged.contains(wanted), "{wanted}: {logged}");
        assert_eq!(logged.trim().lines().count(), 1, "{logged}");
    }
}

#[test]
fn l8_a_passed_socket_that_is_not_loopback_is_refused() {
    let socket = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let logged = Handed::start("http", vec![socket.into()], &Config::example()).fails();
    assert!(logged.contains("not a loopback address"), "{logged}");
    assert!(
        logged.contains("dangerously_allow_non_loopback_proxy"),
        "{logged}"
    );

    let socket = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let logged = Handed::start("admin", vec![socket.into()], &Config::example()).fails();
    assert!(
        logged.contains("dangerously_allow_non_loopback_admin"),
        "{logged}"
    );

    let socket = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let config = Config::example()
        .set("network", "dangerously_allow_non_loopback_proxy", "true")
        .set("network", "dangerously_allow_all_unix_sockets", "true");
    let logged = Handed::start("http", vec![socket.into()], &config).fails();
    assert!(logged.contains("without unix sockets"), "{logged}");
}

#[test]
fn l9_sockets_for_another_process_are_ignored() {
    // As after a fork: LISTEN_PID names another process.
    let daemon = Daemon::launch()
        .config(&Config::example())
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web")
        .start();
    is_the_http_door(daemon.http_addr());
}

#[test]
fn l9_a_client_that_waited_in_the_queue_is_served() {
    let (socket, address) = listener();
    // Connected and waiting before there is a program.
    let mut early = Connection::open(address);
    early.send("GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n");
    let _handed = Handed::start("http", vec![socket], &Config::example());
    assert_eq!(early.read_response().status, 403);
}

/// In the machine's network, where every port is free.
#[test]
fn l9_systemd_socket_activate_passes_its_socket() {
    let _service = Service::new();
    let folder = open_folder();
    let config = Config::example();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config.write(folder.path())).expect("the folder is ours");
    let mut child = Command::new("systemd-socket-activate")
        .args([
            "--listen=127.0.0.1:4000",
            "--fdname=http",
            e2e::shipped::proxy(),
            "--config",
        ])
        .arg(&file)
        .args(["-c", &own_control_socket(&folder)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is systemd-socket-activate: run .ci/system");
    let address = SocketAddr::from(([127, 0, 0, 1], 4000));
    // The first client makes it start the program, which then has that client in its queue.
    let client = poll(TIMEOUT, || TcpStream::connect(address).ok());
    let outcome = std::panic::catch_unwind(|| is_the_http_door(address));
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    assert!(client.is_some());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Replaces the service manager's end of the notification socket.
struct Notified {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Notified {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a free path");
        socket
            .set_read_timeout(Some(TIMEOUT))
            .expect("a socket takes options");
        Self { socket, folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("notify")
    }

    /// The next message with a line that begins like this; returns all its lines.
    #[track_caller]
    fn next(&self, start: &str) -> Vec<String> {
        let mut message = [0; 4096];
        let mut others = Vec::new();
        loop {
            let length = match self.socket.recv(&mut message) {
                Ok(length) => length,
                Err(error) => panic!("no {start} came ({error}), only {others:#?}"),
            };
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.iter().any(|line| line.starts_with(start)) {
                return lines;
            }
            others.push(lines);
        }
    }
}

fn notifying(notified: &Notified, watchdog: Option<Duration>) -> Daemon {
    let launch = Daemon::launch()
        .config(&Config::example())
        .env("NOTIFY_SOCKET", notified.path());
    let launch = match watchdog {
        Some(every) => launch.env("WATCHDOG_USEC", every.as_micros().to_string()),
        None => launch,
    };
    launch.start()
}

#[test]
fn l9_ready_is_sent_when_the_worker_serves_and_then_the_status() {
    let notified = Notified::new();
    let daemon = notifying(&notified, None);
    notified.next("READY=1");
    let status = notified.next("STATUS=");
    is_the_http_door(daemon.http_addr());
    assert!(
        status
            .iter()
            .any(|line| line == "STATUS=full mode, 1 allow and 1 deny rules, 0 connections"),
        "{status:?}"
    );
}

#[test]
fn l9_every_reload_is_announced_with_its_time_and_ends_in_ready() {
    let notified = Notified::new();
    let daemon = notifying(&notified, None);
    notified.next("READY=1");
    for text in [None, Some("[network]\nnonsense = 1\n")] {
        if let Some(text) = text {
            daemon.rewrite_config_text(text);
        }
        daemon.signal(Signal::SIGHUP);
        let reloading = notified.next("RELOADING=1");
        let stamp = reloading
            .iter()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(
            stamp.is_some_and(|stamp| stamp.parse::<u64>().is_ok()),
            "{reloading:?}"
        );
        notified.next("READY=1");
    }
}

#[test]
fn l9_stopping_is_sent_before_the_end() {
    let notified = Notified::new();
    let daemon = notifying(&notified, None);
    notified.next("READY=1");
    daemon.signal(Signal::SIGTERM);
    notified.next("STOPPING=1");
    assert_eq!(daemon.wait_exit().code, Some(0));
}

#[test]
fn l9_the_watchdog_is_notified_only_while_the_worker_answers() {
    let notified = Notified::new();
    let watchdog = Duration::from_secs(2);
    let daemon = notifying(&notified, Some(watchdog));
    for _ in 0..3 {
        notified.next("WATCHDOG=1");
    }
    let worker = child_of(daemon.pid()).expect("there is a worker");
    let worker = nix::unistd::Pid::from_raw(i32::try_from(worker).expect("a process id"));
    nix::sys::signal::kill(worker, Signal::SIGSTOP).expect("the worker is there");
    // Another worker starts before the service manager ends everything. Then the watchdog is fed
    // again.
    daemon.wait_for_log(|line| {
        line.message()
            .is_some_and(|m| m.contains("does not answer"))
    });
    notified.next("STATUS=starting another worker");
    notified.next("WATCHDOG=1");
    assert_ne!(child_of(daemon.pid()), u32::try_from(worker.as_raw()).ok());
}

#[test]
fn l9_own_sockets_are_stored_with_the_service_manager() {
    let notified = Notified::new();
    let _daemon = notifying(&notified, None);
    for name in ["http", "socks5", "admin"] {
        let stored = notified.next("FDSTORE=1");
        assert!(
            stored.contains(&format!("FDNAME=stored-{name}")),
            "{stored:?}"
        );
    }
}

/// Otherwise systemd would keep listening there, and clients would wait.
#[test]
fn l2_a_reload_that_closes_a_listener_removes_its_stored_socket() {
    let notified = Notified::new();
    let daemon = notifying(&notified, None);
    while !notified
        .next("FDSTORE=1")
        .contains(&"FDNAME=stored-admin".to_owned())
    {}
    daemon.rewrite_config(&Config::example().set("network", "enable_socks5", "false"));
    assert_eq!(daemon.reload().status, 200);
    let taken_back = notified.next("FDSTOREREMOVE=1");
    assert!(
        taken_back.contains(&"FDNAME=stored-socks5".to_owned()),
        "{taken_back:?}"
    );
}

#[test]
fn l9_a_missing_service_manager_is_no_error() {
    let nobody = Path::new("/nonexistent/notify");
    let daemon = Daemon::launch()
        .config(&Config::example())
        .env("NOTIFY_SOCKET", nobody)
        .start();
    is_the_http_door(daemon.http_addr());
}

/// A child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|child| {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
            parent == Some(pid)
        })
}
