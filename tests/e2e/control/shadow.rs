//! `proxyctl shadow`: a candidate configuration judges what the running proxy decides (SPEC W5).

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::shipped;
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CANDIDATE: &str = "[network]
allowed_domains = [\"blocked.test\", \"unused.test\"]
denied_domains = [\"denied.test\"]
allow_local_binding = true
";

/// Writes the candidate beside the configuration of the daemon.
fn candidate(daemon: &Daemon) -> String {
    let file = daemon.directory().join("candidate.toml");
    std::fs::write(&file, CANDIDATE).expect("our own directory");
    file.to_str().expect("UTF-8").to_owned()
}

#[test]
fn w5_a_candidate_judges_what_the_proxy_decides_and_is_told_apart() {
    let origin = Origin::start(|_| Answer::Echo);
    let daemon = Daemon::start(&Config::example());
    let mut shadow = Command::new(shipped::proxyctl())
        .arg("--socket")
        .arg(daemon.control_socket())
        .args(["shadow", &candidate(&daemon)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut stdout = BufReader::new(shadow.stdout.take().expect("a pipe"));
    let (sender, lines) = channel();
    let reader = thread::spawn(move || {
        for _ in 0..2 {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("UTF-8");
            sender.send(line).expect("the test waits");
        }
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("UTF-8");
        rest
    });
    let mut live = Vec::new();
    let told = || {
        for host in ["allowed.test", "blocked.test", "denied.test"] {
            daemon.get(&origin.url(host, "/"));
        }
        live.extend(lines.try_iter());
        (live.len() == 2).then_some(())
    };
    poll(TIMEOUT, told).expect("both differences");
    let pid = i32::try_from(shadow.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    assert!(shadow.wait().expect("our child").success());
    let rest = reader.join().expect("lines");

    let port = origin.addr().port();
    let differences = [
        format!("- allowed.test port {port} http (not_allowed)\n"),
        format!("+ blocked.test port {port} http (allow: blocked.test ("),
    ];
    // Either may be the first that is followed.
    live.sort();
    assert!(live[0].starts_with(&differences[1]), "{live:?}");
    assert_eq!(live[1], differences[0]);
    for part in [
        &format!("- allowed.test port {port} http (not_allowed, "),
        &*differences[1],
        "never used: allow unused.test (",
        "1 rule never used",
    ] {
        assert!(rest.contains(part), "{part} in {rest}");
    }
    assert!(!rest.contains("denied.test ("), "both deny it: {rest}");
}

#[test]
fn w5_a_shadow_ends_with_its_time_and_a_faulty_candidate_is_refused() {
    let daemon = Daemon::start(&Config::example());
    let file = candidate(&daemon);
    let result = proxyctl_json(&daemon, &["shadow", &file, "--for", "1s"]);
    assert_eq!(result["records"], 0);
    assert_eq!(result["lost"], 0);
    assert_eq!(result["never_used"].as_array().map(Vec::len), Some(3));
    std::fs::write(&file, "[network]\nmode = \"half\"\n").expect("our own file");
    let run = proxyctl(&daemon, &["shadow", &file]);
    run.failed().says("half");
    assert!(run.stderr.starts_with("error: /"), "{run:#?}");
    std::fs::remove_file(&file).expect("our own file");
    let run = proxyctl(&daemon, &["shadow", &file]);
    run.failed().says("there is no such file");
    assert!(!run.stderr.contains("defaults"), "{run:#?}");
}
