//! Output for people fits the terminal; output into a pipe has one record per line (SPEC K1).

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::shipped;
use nix::pty::{Winsize, openpty};
use serde_json::Value;

use super::be_refused;

const LONG: &str = "a-rather-long-host-name-of-a-department.engineering.corporation.example";

/// Runs `proxyctl` on a terminal with this many columns, and returns its lines.
fn on_terminal(socket: &Path, columns: u16, arguments: &[&str]) -> Vec<String> {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size, None).expect("a terminal");
    let mut child = Command::new(shipped::proxyctl())
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .env_remove("COLUMNS")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(terminal.slave)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut output = Vec::new();
    let mut part = [0; 4096];
    let mut master = std::fs::File::from(terminal.master);
    // Linux reports the end of the other side as an error.
    while let Ok(length @ 1..) = master.read(&mut part) {
        output.extend_from_slice(&part[..length]);
    }
    child.wait().expect("our own child");
    let text = String::from_utf8(output).expect("text");
    text.lines().map(without_colours).collect()
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let mut bare = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        bare.push_str(part.split_once('m').expect("a sequence for colours").1);
    }
    bare
}

fn daemon() -> Daemon {
    let config = Config::example()
        .allow(&format!("*.{LONG}"))
        .deny(&format!("other.{LONG}"));
    let daemon = Daemon::start(&config);
    be_refused(&daemon, &format!("nothing-{LONG}"));
    be_refused(&daemon, &format!("other.{LONG}"));
    let answer = Connection::open(daemon.http_addr()).connect("blocked.test:443");
    assert_eq!(answer.status, 403);
    daemon
}

#[test]
fn k1_output_fits_a_terminal_of_40_and_of_80_columns() {
    let daemon = daemon();
    let url = format!("https://x.{LONG}/");
    let checks = ["doctor", "control", "listeners", "environment", "settings"];
    let commands = [
        &["status"][..],
        &["blocked"],
        &["patterns"],
        &["config"],
        &["explain", &url],
        &["ca", "show"],
        &checks,
    ];
    for columns in [40, 80] {
        for command in commands {
            let lines = on_terminal(&daemon.control_socket(), columns, command);
            assert!(lines.len() > 3, "{command:?}: {lines:#?}");
            let wide = lines.iter().find(|line| {
                // Commands to copy are not cut.
                let is_command = line.starts_with("  -> ") || line.starts_with("    ");
                line.chars().count() > usize::from(columns) && !is_command
            });
            assert_eq!(wide, None, "{command:?} in {columns}: {lines:#?}");
        }
    }
}

#[test]
fn k1_a_narrow_terminal_cuts_no_pattern_value_or_destination() {
    let daemon = daemon();
    let squeezed = |columns, command: &[&str], cells: &dyn Fn(&str) -> String| {
        let lines = on_terminal(&daemon.control_socket(), columns, command);
        let cells: Vec<_> = lines.iter().map(|line| cells(line)).collect();
        cells.concat()
    };
    // The first column; two blanks follow it.
    let first = |line: &str| {
        let cell = line.trim_start().split("  ").next();
        cell.unwrap_or_default().to_owned()
    };
    let patterns = squeezed(40, &["patterns"], &first);
    assert!(patterns.contains(&format!("*.{LONG}")), "{patterns}");
    let destinations = squeezed(40, &["blocked"], &first);
    assert!(
        destinations.contains(&format!("nothing-{LONG}:80")),
        "{destinations}"
    );
}

#[test]
fn k1_a_pipe_gets_one_record_per_line() {
    let daemon = daemon();
    let blocked = proxyctl(&daemon, &["blocked"]);
    let lines: Vec<_> = blocked.succeeded().stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines[1].contains(&format!("nothing-{LONG}:80")),
        "{lines:#?}"
    );
    assert!(lines[3].contains("http-connect  CONNECT"), "{lines:#?}");
    let status = proxyctl(&daemon, &["status"]);
    let processes = status.succeeded().stdout.lines();
    let processes = processes.filter(|line| line.contains("uid ") && line.contains("seccomp "));
    assert_eq!(processes.count(), 2, "{}", status.stdout);
}

#[test]
fn k1_capabilities_are_names_on_a_terminal_and_kernel_text_in_json() {
    let daemon = daemon();
    proxyctl(&daemon, &["status"])
        .succeeded()
        .says("no capabilities, no new privileges, seccomp filter");
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["roles"][1]["capabilities"], "0000000000000000");
}

#[test]
fn k1_columns_show_short_sequence_numbers_that_since_accepts() {
    let daemon = daemon();
    let blocked = proxyctl_json(&daemon, &["blocked"]);
    let first = blocked["blocked"][0]["sequence"]
        .as_u64()
        .expect("a number");
    assert!(first > 1_000_000_000, "{first}");
    let short = format!("{:06}", first % 1_000_000);
    let text = proxyctl(&daemon, &["blocked"]);
    let line = text.succeeded().stdout.lines().nth(1).expect("an entry");
    assert!(line.starts_with(&format!("{short}  ")), "{line}");
    let later = proxyctl_json(&daemon, &["blocked", "--since", &short]);
    assert_eq!(later["blocked"].as_array().map(Vec::len), Some(2));
    assert_eq!(later["blocked"][0], blocked["blocked"][1]);
}

#[test]
fn c5_durations_have_one_form() {
    let config = Config::example()
        .set("daemon.limits", "idle_timeout", r#""90m""#)
        .set("daemon.limits", "header_timeout", r#""1500ms""#);
    let daemon = Daemon::start(&config);
    let limits = &proxyctl_json(&daemon, &["config"])["daemon"]["limits"];
    assert_eq!(limits["idle_timeout"], "1h 30m");
    assert_eq!(limits["header_timeout"], "1s 500ms");
    proxyctl(&daemon, &["config"])
        .succeeded()
        .says("65536 (64 KiB)");
    // The shown form can be written into a file.
    daemon.reload_with(&Config::example().set("daemon.limits", "idle_timeout", r#""1h 30m""#));
    daemon.signal(e2e::daemon::Signal::SIGTERM);
    let stopping = daemon.wait_for_message("stopping: waiting");
    assert_eq!(stopping.field("limit").and_then(Value::as_str), Some("30s"));
}
