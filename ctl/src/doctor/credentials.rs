//! The credential broker (SPEC B13): sources that cannot be read, destinations that the policy refuses, and the
//! programs that `run --credential` takes tokens from.

use std::env;
use std::path::Path;

use codex_network_config::CredentialSource;

use super::configured::Configured;
use super::facts::Facts;
use super::finding::Finding;
use super::proxy::Proxy;
use crate::output::counted;

/// The beginning of the proxy's warnings about sources.
const ABOUT_A_CREDENTIAL: &str = "the credential ";
/// The end of its warnings about destinations.
const NEVER_SENT: &str = "so the credential never goes there";
/// Programs that have tokens of a user.
const KEEPERS: [&str; 2] = [
    "gh",
    if cfg!(target_os = "macos") {
        "security"
    } else {
        "secret-tool"
    },
];

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    match &facts.proxy {
        Proxy::Running(answers) => {
            let is_on = answers.setting(&["credential_broker"]);
            let Some(is_on) = is_on.and_then(serde_json::Value::as_bool) else {
                return vec![Finding::skipped(
                    "the proxy does not show its settings to this user",
                )];
            };
            judge(is_on, &answers.status.warnings, &missing_keepers())
        }
        Proxy::Refuses(_) | Proxy::NotAsked => {
            vec![Finding::skipped(
                "the proxy does not show them to this user",
            )]
        }
        Proxy::NotFound(_) | Proxy::Invalid(_) => vec![match facts.configured() {
            Configured::Settings(settings) => {
                let providers = settings.credential_providers.iter();
                let read = providers.filter(|one| one.source != CredentialSource::Environment);
                match read.count() {
                    0 => Finding::ok("no proxy runs, and it would read no credential itself"),
                    count => Finding::ok(format!(
                        "no proxy runs; it would read {} itself",
                        counted(count, "credential", "credentials")
                    )),
                }
            }
            Configured::Unusable(_) => Finding::skipped("the files cannot be used"),
        }],
    }
}

/// `warnings` are those of the proxy, and `missing` the programs that are not installed.
fn judge(is_on: bool, warnings: &[String], missing: &[&str]) -> Vec<Finding> {
    if !is_on {
        return vec![Finding::ok("the credential broker is off")];
    }
    let unreadable = warnings.iter().filter_map(|warning| {
        let rest = warning.strip_prefix(ABOUT_A_CREDENTIAL)?;
        Some(Finding::problem(
            format!("the credential {rest}"),
            "repair what it names, then proxyctl reload; sessions that begin after it have the credential",
        ))
    });
    let refused = warnings.iter().filter(|one| one.ends_with(NEVER_SENT));
    let refused = refused.map(|warning| {
        Finding::note(warning.as_str())
            .advise("allow the host, or leave it out of the credential's url_prefixes")
    });
    let mut found: Vec<Finding> = unreadable.chain(refused).collect();
    if missing.len() == KEEPERS.len() {
        let finding = Finding::note(format!(
            "neither {} is installed, so `proxyctl run --credential` finds no token",
            KEEPERS.join(" nor ")
        ));
        found.push(finding.advise("install one of them, or set the variable of the credential"));
    }
    if found.is_empty() {
        found.push(Finding::ok(
            "the credential broker is on, and every source can be read",
        ));
    }
    found
}

fn missing_keepers() -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_missing = |program: &&str| {
        !env::split_paths(&path).any(|one| Path::new(&one).join(program).is_file())
    };
    KEEPERS.into_iter().filter(is_missing).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn b13_an_unreadable_source_is_a_problem_and_a_refused_destination_a_note() {
        let warnings = [
            "the credential team cannot be read from /etc/token: gone",
            "config.toml:7:1: the policy refuses \"https://a.test\" (not_allowed), so the credential never goes there",
            "the allow list is empty",
        ]
        .map(str::to_owned);
        let found = judge(true, &warnings, &[]);
        let verdicts: Vec<Verdict> = found.iter().map(|one| one.verdict).collect();
        assert_eq!(verdicts, [Verdict::Problem, Verdict::Note], "{found:?}");
        assert!(found[0].found.contains("/etc/token"));
        assert!(found.iter().all(|one| one.advice.is_some()));
    }

    #[test]
    fn b14_without_any_program_that_has_tokens_there_is_a_note() {
        assert_eq!(judge(true, &[], &KEEPERS)[0].verdict, Verdict::Note);
        assert_eq!(judge(true, &[], &KEEPERS[..1])[0].verdict, Verdict::Ok);
        assert_eq!(judge(false, &[], &KEEPERS)[0].verdict, Verdict::Ok);
    }
}
