//! The CA: whether this system trusts it, how long it is valid, and whether there are root
//! certificates for servers.

use std::ffi::OsStr;

use codex_network_control::message::Ca;
use time::OffsetDateTime;

use super::facts::Facts;
use super::finding::Finding;
use super::tool::{self, Success};
use crate::output::{span, utc};
use crate::trust_store::{CaTrust, TrustStore};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answers) = facts.proxy.running() else {
        return vec![Finding::skipped("no proxy reports which CA it uses")];
    };
    let interception = if answers.intercepts() {
        Interception::Active
    } else {
        Interception::Inactive
    };
    let Some(ca) = &answers.ca else {
        return vec![Finding::ok(
            "there is no CA, since interception is forbidden (mitm = false)",
        )];
    };
    let trust = TrustStore::of("/".as_ref()).map(|store| {
        store.trust(&ca.pem, &mut |tool| {
            let program = tool.program.to_string_lossy();
            let arguments: Vec<_> = tool
                .arguments
                .iter()
                .map(|word| OsStr::to_string_lossy(word))
                .collect();
            let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
            match tool::run(&program, &arguments)? {
                (_, Success::Yes) => Ok(()),
                (_, Success::No) => Err(format!("{program} fails")),
            }
        })
    });
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let advice = if answers.is_of_root {
        &OF_ROOT
    } else {
        &OF_A_USER
    };
    judge(
        ca,
        interception,
        trust.unwrap_or(CaTrust::Unknown),
        advice,
        now,
    )
}

/// Remedies for a CA that exists only in memory, for one that is not trusted, and for an old one.
struct CaAdvice {
    keep: &'static str,
    install: &'static str,
    renew: &'static str,
}

const OF_ROOT: CaAdvice = CaAdvice {
    keep: "sudo codex-network-proxy init, proxyctl reload, then sudo proxyctl ca install",
    install: "sudo proxyctl ca install",
    renew: "remove its certificate and key, sudo codex-network-proxy init, proxyctl reload, then sudo proxyctl ca install",
};

/// `ca install` trusts only root's proxy, and `init` as root makes the CA of the system's proxy.
const OF_A_USER: CaAdvice = CaAdvice {
    keep: "codex-network-proxy init, as the proxy's user and with its --config and -c, then proxyctl reload; proxyctl ca show says how programs trust the CA",
    install: "set SSL_CERT_FILE to the bundle for the programs that use this proxy: proxyctl ca show",
    renew: "remove its certificate and key, codex-network-proxy init, as the proxy's user and with its --config and -c, then proxyctl reload; proxyctl ca show says how programs trust the CA",
};

/// Whether any connection is intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interception {
    Active,
    Inactive,
}

fn judge(
    ca: &Ca,
    interception: Interception,
    trust: CaTrust,
    advice: &CaAdvice,
    now: i64,
) -> Vec<Finding> {
    let mut found = vec![judge_trust(ca, interception, trust, advice)];
    found.extend(judge_time(ca, advice, now));
    if ca.roots == 0 {
        found.push(Finding::problem(
            "this system has no root certificates, so the proxy cannot verify any TLS server",
            "install ca-certificates; the proxy notices it",
        ));
    }
    found
}

fn judge_trust(ca: &Ca, interception: Interception, trust: CaTrust, advice: &CaAdvice) -> Finding {
    match (interception, trust, ca.kept_at.is_some()) {
        (Interception::Inactive, CaTrust::Yes, _) => {
            Finding::ok("this system trusts it; nothing is intercepted at present")
        }
        (Interception::Inactive, _, _) => {
            Finding::ok("not in use: full mode and no hooks, so nothing is intercepted")
        }
        (Interception::Active, CaTrust::Yes, _) => {
            Finding::ok("this system trusts the CA with which connections are intercepted")
        }
        (Interception::Active, _, false) => Finding::problem(
            "connections are intercepted with a CA that is lost when the proxy stops, so no program can trust it for long",
            advice.keep,
        ),
        (Interception::Active, CaTrust::No, true) => Finding::problem(
            "connections are intercepted, and this system does not trust the CA",
            advice.install,
        ),
        (Interception::Active, CaTrust::Unknown, true) => Finding::note(
            "connections are intercepted; whether this system trusts the CA cannot be determined",
        )
        .advise("proxyctl ca show"),
    }
}

fn judge_time(ca: &Ca, advice: &CaAdvice, now: i64) -> Option<Finding> {
    let left = ca.not_after - now;
    if now < ca.not_before {
        let found = format!(
            "the CA is valid from {} on, but this machine's clock says {}",
            utc(ca.not_before),
            utc(now)
        );
        return Some(Finding::problem(found, "set the clock: timedatectl"));
    }
    if left < 0 {
        return Some(Finding::problem(
            format!("the CA expired at {}", utc(ca.not_after)),
            advice.renew,
        ));
    }
    // The proxy replaces a CA in memory itself.
    let is_old = now >= ca.not_before + (ca.not_after - ca.not_before) / 3 * 2;
    (is_old && ca.kept_at.is_some()).then(|| {
        let left = span(u64::try_from(left).unwrap_or(0));
        Finding::note(format!(
            "the CA is past two thirds of its life and expires in {left}"
        ))
        .advise(advice.renew)
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Note, Ok, Problem};
    use super::*;

    const LIFE: i64 = 90 * 24 * 60 * 60;

    fn ca(kept: bool) -> Ca {
        Ca {
            kept_at: kept.then(|| "/state/ca.pem".to_owned()),
            not_before: 1_000,
            not_after: 1_000 + LIFE,
            roots: 1,
            ..Ca::default()
        }
    }

    #[test]
    fn m1_trust_matters_where_something_is_intercepted() {
        use Interception::{Active, Inactive};
        for (used, trust, kept, verdict) in [
            (Inactive, CaTrust::No, false, Ok),
            (Inactive, CaTrust::Unknown, true, Ok),
            (Inactive, CaTrust::Yes, true, Ok),
            (Active, CaTrust::Yes, true, Ok),
            (Active, CaTrust::No, true, Problem),
            (Active, CaTrust::No, false, Problem),
            (Active, CaTrust::Unknown, true, Note),
            (Active, CaTrust::Unknown, false, Problem),
        ] {
            for advice in [&OF_ROOT, &OF_A_USER] {
                let found = judge(&ca(kept), used, trust, advice, 2_000);
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(found[0].verdict, verdict, "{used:?} {trust:?}: {found:?}");
            }
        }
    }

    #[test]
    fn m3_the_advice_for_a_users_proxy_needs_no_root() {
        let advised = |advice: &CaAdvice, is_kept: bool, now: i64| {
            let found = judge(&ca(is_kept), Interception::Active, CaTrust::No, advice, now);
            let advice = found.into_iter().filter_map(|found| found.advice);
            advice.collect::<Vec<_>>().join("; ")
        };
        for (is_kept, now) in [(false, 2_000), (true, 2_000), (true, 1_001 + LIFE)] {
            assert!(advised(&OF_ROOT, is_kept, now).contains("sudo"));
            let advice = advised(&OF_A_USER, is_kept, now);
            assert!(!advice.contains("sudo"), "{advice}");
            assert!(advice.contains("proxyctl ca show"), "{advice}");
        }
    }

    #[test]
    fn m3_the_validity_of_the_ca_and_the_roots_are_checked() {
        for (now, verdict) in [
            (999, Some(Problem)),
            (1_000, None),
            (999 + LIFE / 3 * 2, None),
            (1_000 + LIFE / 3 * 2, Some(Note)),
            (1_001 + LIFE, Some(Problem)),
        ] {
            let found = judge_time(&ca(true), &OF_ROOT, now);
            assert_eq!(found.map(|found| found.verdict), verdict, "{now}");
        }
        assert_eq!(judge_time(&ca(false), &OF_ROOT, 999 + LIFE), None);
        let rootless = Ca {
            roots: 0,
            ..ca(true)
        };
        assert_eq!(
            judge(
                &rootless,
                Interception::Inactive,
                CaTrust::No,
                &OF_ROOT,
                2_000
            )[1]
            .verdict,
            Problem
        );
    }
}
