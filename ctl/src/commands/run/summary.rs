//! The summary of a session (SPEC J11): hosts that were reached and refused, and what would allow the
//! latter.

use codex_network_control::message::{SessionDestination, SessionReport};
use serde_json::json;

use crate::args::{IsolationLevel, RunArgs};
use crate::output::{Output, OutputFormat, bracketed, grouped, printable, size};

/// How many destinations of a kind are listed.
const MAX_LISTED: usize = 8;

/// Writes the summary to standard error.
pub(super) fn write(output: &Output, args: &RunArgs, report: &SessionReport) {
    if output.format() == OutputFormat::Json {
        return output.remark(&json!({ "session": report }).to_string());
    }
    for line in lines(args, report) {
        output.remark(&line);
    }
}

fn lines(args: &RunArgs, report: &SessionReport) -> Vec<String> {
    let confined = match args.isolation {
        IsolationLevel::Env => ", unconfined",
        IsolationLevel::Jail if args.allow_unix_sockets => ", unix sockets open",
        IsolationLevel::Jail => "",
    };
    let mut lines = vec![format!(
        "proxyctl: {} allowed, {} refused, {} sent, {} received{confined}",
        grouped(report.allowed_total),
        grouped(report.refused_total),
        size(report.bytes_up),
        size(report.bytes_down)
    )];
    lines.extend(listed("reached", &report.allowed, |destination| {
        times(destination.count)
    }));
    lines.extend(listed("refused", &report.refused, |destination| {
        format!("{}, {}", times(destination.count), destination.reason)
    }));
    if report.others > 0 {
        lines.push(format!("  and {} at other destinations", report.others));
    }
    lines.extend(remedies(args, &report.refused));
    lines
}

fn listed(
    label: &str,
    destinations: &[SessionDestination],
    about: impl Fn(&SessionDestination) -> String,
) -> Vec<String> {
    let mut lines: Vec<String> = destinations
        .iter()
        .take(MAX_LISTED)
        .map(|destination| {
            let host = printable(&bracketed(&destination.host));
            let port = match destination.port {
                0 => String::new(),
                port => format!(":{port}"),
            };
            format!(
                "  {label} {host}{port} ({})",
                printable(&about(destination))
            )
        })
        .collect();
    if destinations.len() > MAX_LISTED {
        let more = destinations.len() - MAX_LISTED;
        lines.push(format!("  {label} {more} more hosts"));
    }
    lines
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// The lines of a configuration that would allow what was refused, where an allow entry is all that
/// lacks.
fn remedies(args: &RunArgs, refused: &[SessionDestination]) -> Vec<String> {
    let mut hosts: Vec<&str> = refused
        .iter()
        .filter(|destination| destination.reason == "not_allowed")
        .map(|destination| destination.host.as_str())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    if hosts.is_empty() {
        return Vec::new();
    }
    let narrowed = if args.only.is_empty() {
        ""
    } else {
        ", and to --only"
    };
    let mut lines = vec![format!(
        "To allow what was not allowed, add to allowed_domains of the policy{narrowed}, if you trust these hosts:"
    )];
    let quoted: Vec<String> = hosts.iter().map(|host| format!("  {host:?},")).collect();
    lines.extend(quoted.iter().map(|line| printable(line)));
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn args(words: &[&str]) -> RunArgs {
        let words = [&["proxyctl", "run"], words, &["true"]].concat();
        match Args::try_parse_from(words).expect("a command line").command {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    fn destination(host: &str, reason: &str, count: u64) -> SessionDestination {
        SessionDestination {
            host: host.to_owned(),
            port: 443,
            reason: reason.to_owned(),
            count,
        }
    }

    #[test]
    fn j11_the_summary_names_hosts_counts_and_the_lines_that_would_allow() {
        let report = SessionReport {
            allowed: vec![destination("a.test", "allow", 1)],
            refused: vec![
                destination("b.test", "not_allowed", 101),
                destination("c.test", "denied", 11),
            ],
            allowed_total: 1,
            refused_total: 112,
            bytes_up: 10,
            bytes_down: 2048,
            ..SessionReport::default()
        };
        let text = lines(&args(&[]), &report).join("\n");
        assert_eq!(
            text,
            "proxyctl: 1 allowed, 112 refused, 10 bytes sent, 2 KiB received\n  \
             reached a.test:443 (once)\n  refused b.test:443 (101 times, not_allowed)\n  \
             refused c.test:443 (11 times, denied)\n\
             To allow what was not allowed, add to allowed_domains of the policy, if you trust these hosts:\n  \
             \"b.test\","
        );
        let env = lines(&args(&["--isolation", "env"]), &report);
        assert!(env[0].ends_with(", unconfined"), "{env:?}");
    }

    #[test]
    fn j11_the_summary_of_many_hosts_is_short() {
        let many = (0..50).map(|number| destination(&format!("h{number}.test"), "denied", 2));
        let report = SessionReport {
            refused: many.collect(),
            others: 7,
            ..SessionReport::default()
        };
        let lines = lines(&args(&[]), &report);
        assert_eq!(lines.len(), 1 + MAX_LISTED + 2, "{lines:#?}");
        assert!(lines.contains(&"  refused 42 more hosts".to_owned()));
    }
}
