//! Name servers, the hosts file and roots change while the daemon runs, without a reload (SPEC L14).
//!
//! The path `/etc/resolv.conf` and the port 53 of name servers are fixed. So these tests
//! run in a network and with an `/etc` of their own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, LogLine, Signal};
use e2e::namespace::{Namespace, is_inside};
use e2e::origin::{Answer, Origin};
use e2e::resolver::StubResolver;
use e2e::tls::{Client, Server, TestCa};
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const TAKEN_OVER: &str = "taken over without a reload: ";

/// A name server on port 53 of this address, which knows one name.
fn name_server(address: [u8; 4], name: &str) -> StubResolver {
    let dns = StubResolver::start_on(SocketAddr::from((address, 53)));
    dns.answer(name, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    dns
}

fn names(servers: &[&str]) -> String {
    let lines = servers.iter().map(|server| format!("nameserver {server}"));
    lines.chain([String::new()]).collect::<Vec<_>>().join("\n")
}

fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("our own file");
}

/// Renames a new file over a path.
fn replace(path: &str, content: &str) {
    let new = format!("{path}.new");
    write(&new, content);
    fs::rename(&new, path).expect("our own directory");
}

/// Waits until a host answers, for a short time: longer than the proxy takes, shorter than it takes
/// where the kernel does not report changes.
#[track_caller]
fn wait_until_reached(daemon: &Daemon, origin: &Origin, host: &str) {
    let reached = poll(TIMEOUT, || {
        (daemon.get(&origin.url(host, "/")).status == 200).then_some(())
    });
    reached.unwrap_or_else(|| {
        panic!(
            "{host} is not reached: {:?}",
            daemon.get(&origin.url(host, "/"))
        )
    });
}

fn generation(daemon: &Daemon) -> Value {
    daemon.admin("GET", "/config", None).json()["generation"].clone()
}

/// How often the log reports new system files with this text.
fn times(daemon: &Daemon, words: &str) -> usize {
    let logs = daemon.logs();
    let is_one = |line: &&LogLine| line.message_contains(&format!("{TAKEN_OVER}{words}"));
    logs.iter().filter(is_one).count()
}

#[track_caller]
fn wait_for_times(daemon: &Daemon, words: &str, count: usize) {
    let logged = poll(TIMEOUT, || (times(daemon, words) >= count).then_some(()));
    logged.unwrap_or_else(|| panic!("{words:?} is logged {} times", times(daemon, words)));
}

#[test]
fn l14_changed_name_servers_are_used_without_a_reload() {
    let name = "system_files::l14_changed_name_servers_are_used_without_a_reload";
    if !is_inside(name, Namespace::NetworkAndEtc, "true") {
        return;
    }
    let _first = name_server([127, 0, 0, 2], "first.test");
    let _second = name_server([127, 0, 0, 3], "second.test");
    let (one, two) = (names(&["127.0.0.2"]), names(&["127.0.0.3"]));
    let there = "name servers 127.0.0.2:53 -> 127.0.0.3:53";
    let back = "name servers 127.0.0.3:53 -> 127.0.0.2:53";
    replace(RESOLV_CONF, &one);
    let origin = Origin::start(|_| Answer::text("here"));
    let bytes = Origin::echoing_bytes().start();
    let config = Config::new().allow("*").system_names();
    let daemon = Daemon::start(&config);
    let mut tunnel = Connection::open(daemon.http_addr());
    let authority = format!("first.test:{}", bytes.addr().port());
    assert_eq!(tunnel.connect(&authority).status, 200);
    assert_eq!(daemon.get(&origin.url("second.test", "/")).status, 502);
    let before = generation(&daemon);

    // Renamed over, as network managers do it.
    replace(RESOLV_CONF, &two);
    wait_until_reached(&daemon, &origin, "second.test");
    wait_for_times(&daemon, there, 1);
    // The answers of the first server are no longer used.
    assert_eq!(daemon.get(&origin.url("first.test", "/")).status, 502);
    // In place.
    write(RESOLV_CONF, &one);
    wait_until_reached(&daemon, &origin, "first.test");
    wait_for_times(&daemon, back, 1);
    // Replace the file by a link into a directory that does not exist yet.
    symlink("run/stub-resolv.conf", "/etc/new").expect("our own directory");
    fs::rename("/etc/new", RESOLV_CONF).expect("our own directory");
    daemon.wait_for_message("name servers 127.0.0.2:53 -> none");
    fs::create_dir("/etc/run").expect("our own directory");
    write("/etc/run/stub-resolv.conf", &two);
    wait_until_reached(&daemon, &origin, "second.test");
    // Another link, renamed over.
    write("/etc/run/resolv.conf", &one);
    symlink("run/resolv.conf", "/etc/new").expect("our own directory");
    fs::rename("/etc/new", RESOLV_CONF).expect("our own directory");
    wait_until_reached(&daemon, &origin, "first.test");
    wait_for_times(&daemon, back, 2);
    // The target of the link changes.
    replace("/etc/run/resolv.conf", &two);
    wait_until_reached(&daemon, &origin, "second.test");
    wait_for_times(&daemon, there, 2);

    // Half of a file, or something else, is no reason to forget the name servers.
    write("/etc/run/resolv.conf", "names\0");
    daemon.wait_for_message("what was read before stays in force");
    assert_eq!(daemon.get(&origin.url("second.test", "/")).status, 200);
    replace("/etc/run/resolv.conf", &one);
    wait_until_reached(&daemon, &origin, "first.test");

    let in_use = e2e::proxyctl::proxyctl_json(&daemon, &["status"])["names"].clone();
    assert_eq!(in_use["from"], "system");
    assert_eq!(in_use["servers"][0]["address"], "127.0.0.2:53");
    assert!(in_use["servers"][0]["last_success"].is_i64(), "{in_use}");

    assert_eq!(generation(&daemon), before, "the policy is the same");
    tunnel.send("still here");
    assert_eq!(tunnel.read_exact(10), b"still here");
    let logs = daemon.logs();
    assert!(!logs.iter().any(|line| line.message() == Some("reloaded")));
}

#[test]
fn l14_without_a_name_server_lookups_fail_with_a_reason_until_one_appears() {
    let name =
        "system_files::l14_without_a_name_server_lookups_fail_with_a_reason_until_one_appears";
    if !is_inside(name, Namespace::NetworkAndEtc, "true") {
        return;
    }
    let _server = name_server([127, 0, 0, 2], "first.test");
    // No file names this server. resolver(3) would ask it; the proxy does not.
    let local = name_server([127, 0, 0, 1], "first.test");
    let origin = Origin::start(|_| Answer::text("here"));
    let config = Config::new().allow("*").system_names();
    for missing in [true, false] {
        fs::remove_file(RESOLV_CONF).expect("our own file");
        if !missing {
            write(RESOLV_CONF, "# no network yet\n");
        }
        let daemon = Daemon::start(&config);
        let answer = daemon.get(&origin.url("first.test", "/"));
        assert_eq!(answer.status, 502);
        assert!(
            answer.text().contains("knows no name server"),
            "{}",
            answer.text()
        );
        assert_eq!(daemon.get(&origin.url("localhost", "/")).status, 200);
        replace(RESOLV_CONF, &names(&["127.0.0.2"]));
        wait_until_reached(&daemon, &origin, "first.test");
        wait_for_times(&daemon, "name servers none -> 127.0.0.2:53", 1);
        // The name servers are removed again.
        write(RESOLV_CONF, "");
        daemon.wait_for_message("name servers 127.0.0.2:53 -> none");
        assert_eq!(daemon.get(&origin.url("first.test", "/")).status, 502);
        assert_eq!(local.names_asked(), [""; 0]);
    }
}

#[test]
fn l14_the_systems_hosts_file_is_followed_by_new_workers_and_reloads_too() {
    let name =
        "system_files::l14_the_systems_hosts_file_is_followed_by_new_workers_and_reloads_too";
    if !is_inside(name, Namespace::NetworkAndEtc, "true") {
        return;
    }
    let _server = name_server([127, 0, 0, 2], "first.test");
    replace(RESOLV_CONF, "");
    let origin = Origin::start(|_| Answer::text("here"));
    let config = Config::new().allow("*").system_names();
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.get(&origin.url("listed.test", "/")).status, 502);
    replace("/etc/hosts", "127.0.0.1 listed.test\n");
    wait_until_reached(&daemon, &origin, "listed.test");
    replace(RESOLV_CONF, &names(&["127.0.0.2"]));
    wait_until_reached(&daemon, &origin, "first.test");

    let killed = daemon.worker();
    kill(
        Pid::from_raw(i32::try_from(killed).expect("a process id")),
        Signal::SIGKILL,
    )
    .expect("root ends any process");
    daemon.wait_for_message("the worker is gone");
    wait_until_reached(&daemon, &origin, "first.test");
    wait_until_reached(&daemon, &origin, "listed.test");
    // Both files at once, and a failed reload between them.
    write("/etc/hosts", "");
    daemon.rewrite_config_text("[network]\nmode = 3\n");
    assert_eq!(daemon.reload().status, 500);
    wait_for_times(&daemon, "hosts file", 2);
    assert_eq!(daemon.get(&origin.url("listed.test", "/")).status, 502);
    write("/etc/hosts", "127.0.0.1 again.test\n");
    daemon.reload_with(&config);
    wait_until_reached(&daemon, &origin, "again.test");
    // After a reload the files are watched as before it.
    write("/etc/hosts", "127.0.0.1 later.test\n");
    wait_until_reached(&daemon, &origin, "later.test");
}

#[test]
fn l14_a_configured_hosts_file_is_followed_and_kept_connections_are_not_reused() {
    let origin = Origin::start(|_| Answer::text("one"));
    let there = IpAddr::from([127, 0, 0, 1]);
    let config = Config::new().allow("*").host("moved.test", there);
    let daemon = Daemon::start(&config);
    let get_kept = || {
        let authority = format!("moved.test:{}", origin.addr().port());
        let head = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        Connection::open(daemon.http_addr()).exchange(&head).status
    };
    assert_eq!(get_kept(), 200);
    // Nothing listens there. The kept connection leads to the old address.
    let hosts = daemon.directory().join("hosts");
    write(&hosts, "127.0.0.9 moved.test\n");
    let moved = poll(TIMEOUT, || (get_kept() == 502).then_some(()));
    assert!(moved.is_some(), "the kept connection is used again");
    // A file that is gone for a moment changes nothing.
    fs::remove_file(&hosts).expect("our own file");
    daemon.wait_for_message("what was read before stays in force");
    assert_eq!(get_kept(), 502);
    write(&hosts, "127.0.0.1 moved.test\n");
    let back = poll(TIMEOUT, || (get_kept() == 200).then_some(()));
    assert!(back.is_some(), "the file is not read again");
}

#[test]
fn l14_added_roots_become_trusted_and_removed_roots_do_not_stay() {
    let (other, ca) = (TestCa::new(), TestCa::new());
    let tls = Server::of(&ca, &["allowed.test"]).alpn(&["http/1.1"]);
    let origin = Origin::answering(|_| Answer::text("secret"))
        .tls_as(&tls)
        .start();
    let config = Config::limited();
    let directory = tempfile::tempdir().expect("a directory");
    let bundle = directory.path().join("roots.pem");
    write(&bundle, other.pem());
    let daemon = Daemon::launch()
        .config(&config)
        .env("SSL_CERT_FILE", &bundle)
        .env("SSL_CERT_DIR", "/nonexistent")
        .start();
    let proxy_ca = e2e::proxyctl::exported_ca(&daemon);
    let get = || {
        let mut client = Connection::open(daemon.http_addr());
        let authority = format!("allowed.test:{}", origin.addr().port());
        assert_eq!(client.connect(&authority).status, 200);
        let trust = Client::trusting_pem(&proxy_ca).alpn(&["http/1.1"]);
        let (mut client, _) = client.secure(&trust, "allowed.test");
        client.exchange(&format!("GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n"))
    };
    let answer = get();
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("certificate_unknown_issuer"));
    replace(
        bundle.to_str().expect("our own path"),
        &format!("{}{}", other.pem(), ca.pem()),
    );
    let trusted = poll(TIMEOUT, || (get().status == 200).then_some(()));
    assert!(trusted.is_some(), "the added root does not count");
    daemon.wait_for_message("roots: 1 added, 0 removed");
    // Without any root nothing would be verified: the old ones stay.
    write(&bundle, "");
    daemon.wait_for_message("no root certificates were found");
    assert_eq!(get().status, 200);
    write(&bundle, other.pem());
    let distrusted = poll(TIMEOUT, || (get().status == 502).then_some(()));
    assert!(distrusted.is_some(), "the removed root still counts");
}

/// The line of `proxyctl doctor names`, its advice included.
fn doctor(daemon: &Daemon) -> Value {
    let ran = e2e::proxyctl::proxyctl(daemon, &["doctor", "--json", "names"]);
    let lines: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    lines[0].clone()
}

#[test]
fn l14_status_and_doctor_report_the_state_of_the_name_servers() {
    let name = "system_files::l14_status_and_doctor_report_the_state_of_the_name_servers";
    if !is_inside(name, Namespace::NetworkAndEtc, "true") {
        return;
    }
    let server = name_server([127, 0, 0, 2], "first.test");
    // `doctor` compares no file that has just changed.
    let replace_old = |content: &str| {
        let path = "/etc/resolv.conf.new";
        write(path, content);
        let file = fs::File::options().write(true).open(path);
        let file = file.expect("our own file");
        let hour = std::time::Duration::from_secs(3600);
        file.set_modified(std::time::SystemTime::now() - hour)
            .expect("our own file");
        fs::rename(path, RESOLV_CONF).expect("our own directory");
    };
    replace_old("");
    let origin = Origin::start(|_| Answer::text("here"));
    let config = Config::new().allow("*").system_names();
    let daemon = Daemon::start(&config);
    let status = || e2e::proxyctl::proxyctl_json(&daemon, &["status"])["names"].clone();
    assert!(status()["problem"].is_string(), "{}", status());
    let line = doctor(&daemon);
    assert_eq!(line["verdict"], "note", "{line}");
    let found = line["found"].as_str().expect("a sentence");
    assert!(found.contains("knows no name server"), "{found}");

    replace_old(&names(&["127.0.0.2"]));
    wait_until_reached(&daemon, &origin, "first.test");
    assert_eq!(status()["servers"][0]["failures"], 0);
    assert_eq!(doctor(&daemon)["verdict"], "ok", "{}", doctor(&daemon));

    let degraded = || e2e::proxyctl::proxyctl_json(&daemon, &["status"])["degraded"].clone();
    let fail = |name: &str, number| {
        server.servfail(name);
        assert_eq!(daemon.get(&origin.url(name, "/")).status, 502);
        assert_eq!(status()["servers"][0]["failures"], number, "{}", status());
    };
    // A client asks for names of one zone that is broken.
    for number in 1..=4 {
        fail(&format!("host{number}.broken.test"), number);
    }
    assert!(status()["servers"][0]["last_error"].is_string());
    assert_eq!(degraded(), serde_json::json!([]));
    assert_eq!(doctor(&daemon)["verdict"], "note", "{}", doctor(&daemon));
    for number in 5..=8 {
        fail(&format!("other{number}.test"), number);
    }
    let line = doctor(&daemon);
    assert_eq!(line["verdict"], "problem", "{line}");
    assert_eq!(degraded()[0]["part"], "resolver");
    assert!(status()["servers"][0]["failing_since"].is_i64());
    // "No such name" counts as an answer.
    assert_eq!(daemon.get(&origin.url("missing.test", "/")).status, 502);
    assert_eq!(status()["servers"][0]["failures"], 0);
    assert_eq!(degraded(), serde_json::json!([]));
}

#[test]
fn l14_a_change_while_the_proxy_stops_is_ignored() {
    let bytes = Origin::echoing_bytes().start();
    let config = Config::example();
    let daemon = Daemon::start(&config);
    let mut tunnel = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", bytes.addr().port());
    assert_eq!(tunnel.connect(&authority).status, 200);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for_message("stopping: waiting for open connections");
    write(daemon.directory().join("hosts"), "127.0.0.1 other.test\n");
    tunnel.send("still here");
    assert_eq!(tunnel.read_exact(10), b"still here");
    drop(tunnel);
    let exit = daemon.wait_exit();
    assert_eq!(exit.code, Some(0), "{}", exit.text());
    let output = exit.text();
    assert!(
        !output.contains(TAKEN_OVER) && !output.contains("panicked"),
        "{output}"
    );
}
