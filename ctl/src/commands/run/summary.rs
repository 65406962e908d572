//! The summary of a session (SPEC J11): destinations that were allowed and refused, and the entries that would allow
//! the latter.

use codex_network_control::message::{SessionDestination, SessionReport};
use serde_json::json;

use super::proxy_choice::ProxyKind;
use crate::args::run::{IsolationLevel, RunArgs};
use crate::output::{Output, OutputFormat, bracketed, grouped, printable_line, size};
use crate::proposal::is_suggested;

/// How many destinations of a kind are listed.
const MAX_LISTED: usize = 8;

/// The remedy for a local or private address (SPEC P4).
const LOCAL_REMEDY: &str = "To allow a local or private address, add the address itself to the allow list, or set \
     allow_local_binding = true.";

/// Writes the summary to standard error.
pub(super) fn write(output: &Output, args: &RunArgs, proxy: ProxyKind, report: &SessionReport) {
    if output.format() == OutputFormat::Json {
        return output.remark(&json!({ "session": report }).to_string());
    }
    for line in lines(args, proxy, report) {
        output.remark(&line);
    }
}

fn lines(args: &RunArgs, proxy: ProxyKind, report: &SessionReport) -> Vec<String> {
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
    lines.extend(listed("allowed", &report.allowed, |destination| {
        let times = times(destination.count);
        match destination.reason.as_str() {
            // A decider, a grant, or report-only.
            "not_allowed" => format!("{times}, on no allow list"),
            _ => times,
        }
    }));
    lines.extend(listed("refused", &report.refused, |destination| {
        format!("{}, {}", times(destination.count), destination.reason)
    }));
    if report.others > 0 {
        lines.push(format!("  and {} at other destinations", report.others));
    }
    lines.extend(remedies(args, proxy, &report.refused));
    if has_local(&report.refused) {
        lines.push(LOCAL_REMEDY.to_owned());
    }
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
            let host = printable_line(&bracketed(&destination.host));
            let port = match destination.port {
                0 => String::new(),
                port => format!(":{port}"),
            };
            format!(
                "  {label} {host}{port} ({})",
                printable_line(&about(destination))
            )
        })
        .collect();
    if destinations.len() > MAX_LISTED {
        let more = destinations.len() - MAX_LISTED;
        lines.push(format!("  {label} {more} more destinations"));
    }
    lines
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// The entries that would allow what was refused, where an allow entry is all that lacks.
fn remedies(args: &RunArgs, proxy: ProxyKind, refused: &[SessionDestination]) -> Vec<String> {
    let mut hosts: Vec<&str> = Vec::new();
    for destination in refused {
        let host = destination.host.as_str();
        let is_new = !hosts.contains(&host);
        if destination.reason == "not_allowed" && is_new && is_suggested(host, destination.port) {
            hosts.push(host);
        }
    }
    let Some(first) = hosts.first() else {
        return Vec::new();
    };
    let option = match (proxy, &args.config) {
        (ProxyKind::Private, Some(_)) => {
            "use --allow HOST, or `proxyctl allow HOST --config FILE`, or "
        }
        (ProxyKind::Private, None) => "use --allow HOST, or `proxyctl allow HOST`, or ",
        (ProxyKind::Service, _) => "use `proxyctl allow HOST`, or ",
    };
    let narrowed = if args.only.is_empty() {
        ""
    } else {
        ", and to --only"
    };
    let mut lines = vec![printable_line(&format!(
        "To allow what was not allowed, if you trust these hosts, {option}add them to allowed_domains of the policy \
         ({first:?}) or to its table of domains ({first:?} = \"allow\"){narrowed}:"
    ))];
    let listed = hosts.iter().take(MAX_LISTED);
    lines.extend(listed.map(|host| format!("  {}", printable_line(host))));
    if hosts.len() > MAX_LISTED {
        lines.push(format!("  and {} more", hosts.len() - MAX_LISTED));
    }
    lines
}

fn has_local(refused: &[SessionDestination]) -> bool {
    refused
        .iter()
        .any(|destination| destination.reason == "not_allowed_local")
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
            local: false,
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
        let text = lines(&args(&[]), ProxyKind::Service, &report).join("\n");
        assert_eq!(
            text,
            "proxyctl: 1 allowed, 112 refused, 10 bytes sent, 2 KiB received\n  \
             allowed a.test:443 (once)\n  refused b.test:443 (101 times, not_allowed)\n  \
             refused c.test:443 (11 times, denied)\n\
             To allow what was not allowed, if you trust these hosts, use `proxyctl allow HOST`, or add them to \
             allowed_domains of the policy (\"b.test\") or to its table of domains (\"b.test\" = \"allow\"):\n  b.test"
        );
        let private = lines(&args(&["--only", "a.test"]), ProxyKind::Private, &report).join("\n");
        assert!(
            private.contains(" hosts, use --allow HOST, or `proxyctl allow HOST`, or add "),
            "{private}"
        );
        assert!(private.contains("), and to --only:"), "{private}");
        let env = lines(&args(&["--isolation", "env"]), ProxyKind::Service, &report);
        assert!(env[0].ends_with(", unconfined"), "{env:?}");
    }

    #[test]
    fn j11_the_summary_says_what_allows_a_local_address() {
        let remedy = |reason| {
            let report = SessionReport {
                refused: vec![destination("a.test", reason, 1)],
                ..SessionReport::default()
            };
            let lines = lines(&args(&[]), ProxyKind::Service, &report);
            lines.iter().any(|line| line == LOCAL_REMEDY)
        };
        assert!(remedy("not_allowed_local"));
        assert!(!remedy("not_allowed"));
    }

    #[test]
    fn j11_the_summary_of_many_hosts_is_short() {
        let many = (0..50).map(|number| destination(&format!("h{number}.test"), "denied", 2));
        let report = SessionReport {
            refused: many.collect(),
            others: 7,
            ..SessionReport::default()
        };
        let lines = lines(&args(&[]), ProxyKind::Service, &report);
        assert_eq!(lines.len(), 1 + MAX_LISTED + 2, "{lines:#?}");
        assert!(lines.contains(&"  refused 42 more destinations".to_owned()));
    }

    #[test]
    fn j11_the_summary_suggests_few_hosts_and_only_those_that_a_list_can_have() {
        let looked_up = |host: &str| SessionDestination {
            port: 0,
            ..destination(host, "not_allowed", 1)
        };
        let hosts = |refused: &[SessionDestination]| {
            let lines = remedies(&args(&[]), ProxyKind::Service, refused);
            lines.into_iter().skip(1).collect::<Vec<_>>()
        };
        let refused = [
            looked_up("1.0.18.198.in-addr.arpa"),
            looked_up("_"),
            looked_up("local"),
            looked_up("_dmarc.a.test"),
            looked_up("not a host"),
            looked_up("looked-up.test"),
            destination("printer", "not_allowed", 1),
            destination("looked-up.test", "not_allowed", 1),
        ];
        assert_eq!(hosts(&refused), ["  looked-up.test", "  printer"]);
        let many: Vec<_> = (0..50)
            .map(|number| looked_up(&format!("h{number}.test")))
            .collect();
        let lines = hosts(&many);
        assert_eq!(lines.len(), MAX_LISTED + 1, "{lines:#?}");
        assert_eq!(lines[MAX_LISTED], "  and 42 more");
    }
}
