//! `run --learn`: the policy that the program needed (SPEC W1).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use codex_network_control::message::{SessionDestination, SessionReport};
use serde_json::json;

use crate::args::run::RunArgs;
use crate::failure::Failure;
use crate::output::{Output, OutputFormat, bracketed, printable};
use crate::proposal::{LOCAL_BINDING, NeededDestination, Proposal};

/// How many refused destinations the policy's comments name.
const MAX_REFUSED: usize = 8;

/// Fails if the file of the policy cannot be new.
pub(super) fn check_output(args: &RunArgs) -> Result<(), Failure> {
    match &args.output {
        Some(file) if file.symlink_metadata().is_ok() => Err(Failure::NoSession(format!(
            "{} exists, and --output overwrites nothing; name another file, or remove this one",
            printable(&file.display().to_string())
        ))),
        _ => Ok(()),
    }
}

/// Writes the policy: to the file of `--output`, or to standard error.
pub(super) fn write(output: &Output, args: &RunArgs, mode: &str, report: &SessionReport) {
    let proposal = proposal(report);
    let policy = proposal.to_toml(mode == "limited", &remarks(report));
    let written = args
        .output
        .as_deref()
        .map(|file| (file, create(file, &policy)));
    let file = match &written {
        Some((file, Ok(()))) => Some(file.display().to_string()),
        Some((file, Err(error))) => {
            let file = file.display().to_string();
            output.complain(&format!("cannot write {}: {error}", printable(&file)));
            None
        }
        None => None,
    };
    if output.format() == OutputFormat::Json {
        let learned = json!({ "proposal": proposal, "policy": policy, "file": file });
        return output.remark(&json!({ "learned": learned }).to_string());
    }
    if let Some(file) = file {
        output.remark(&format!(
            "proxyctl: wrote the policy that this program needed to {}; read it before you use it",
            printable(&file)
        ));
        if !proposal.local.is_empty() {
            output.remark(&format!("proxyctl: {LOCAL_BINDING}"));
        }
        return;
    }
    output.remark("proxyctl: the policy that this program needed; read it before you use it:");
    for line in policy.lines() {
        output.remark(line);
    }
}

fn proposal(report: &SessionReport) -> Proposal {
    // A unix socket has no port.
    let allowed = report.allowed.iter().filter(|allowed| allowed.port != 0);
    let needed = allowed.map(|allowed| NeededDestination {
        host: allowed.host.clone(),
        port: allowed.port,
        count: allowed.count,
        is_local: allowed.local,
    });
    let refused = report.refused.iter().map(|refused| refused.host.clone());
    Proposal::of(needed, &refused.collect())
}

/// Comments: the attempts that the policy does not allow, and its gaps.
fn remarks(report: &SessionReport) -> Vec<String> {
    let mut remarks =
        vec!["The hosts that one run of a program reached, by `proxyctl run --learn`.".to_owned()];
    let refused = |refused: &SessionDestination| {
        let host = bracketed(&refused.host);
        let port = match refused.port {
            0 => String::new(),
            port => format!(":{port}"),
        };
        format!("Refused: {host}{port} ({}).", refused.reason)
    };
    remarks.extend(report.refused.iter().take(MAX_REFUSED).map(refused));
    let more = report.refused.len().saturating_sub(MAX_REFUSED);
    if more > 0 {
        remarks.push(format!("{more} more destinations were refused."));
    }
    if report.others > 0 {
        remarks.push(format!(
            "Incomplete: {} attempts were at destinations beyond those that a session remembers. Learn again in parts.",
            report.others
        ));
    }
    remarks
}

/// Makes a new file. It replaces none, and follows no link.
fn create(file: &Path, policy: &str) -> std::io::Result<()> {
    let mut created = OpenOptions::new().write(true).create_new(true).open(file)?;
    created.write_all(policy.as_bytes())?;
    created.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(host: &str, port: u16, reason: &str) -> SessionDestination {
        SessionDestination {
            host: host.to_owned(),
            port,
            reason: reason.to_owned(),
            count: 1,
            local: false,
        }
    }

    #[test]
    fn w1_the_policy_has_what_was_reached_and_names_what_was_refused_or_is_not_known() {
        let report = SessionReport {
            allowed: vec![
                destination("a.test", 443, "not_allowed"),
                destination("b.test", 80, "allow"),
                destination("unix-socket", 0, "allow"),
            ],
            refused: (0..10)
                .map(|number| destination(&format!("r{number}.test"), 22, "denied"))
                .collect(),
            others: 3,
            ..SessionReport::default()
        };
        let proposal = proposal(&report);
        let patterns: Vec<_> = proposal.entries.iter().map(|one| &one.pattern).collect();
        assert_eq!(patterns, ["a.test", "b.test"]);
        let remarks = remarks(&report);
        assert_eq!(remarks.len(), 1 + MAX_REFUSED + 2, "{remarks:#?}");
        assert_eq!(remarks[1], "Refused: r0.test:22 (denied).");
        assert_eq!(remarks[9], "2 more destinations were refused.");
        assert!(remarks[10].starts_with("Incomplete: 3 attempts"));
    }

    #[test]
    fn w1_a_file_is_made_and_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("policy.toml");
        create(&file, "first").expect("a new file");
        create(&file, "second").expect_err("it exists");
        assert_eq!(std::fs::read_to_string(&file).expect("a file"), "first");
        let (link, target) = (directory.path().join("link"), directory.path().join("none"));
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        create(&link, "third").expect_err("a link");
        assert!(!target.exists());
    }
}
