//! Whether `proxyctl run` can make a jail on this machine.

use super::finding::Finding;

/// The advice where no rules of nft can be made.
#[cfg(target_os = "linux")]
const INSTALL_NFT: &str = "install nft (package nftables), and let every user execute it";
/// The advice where the kernel cannot keep signals in a jail.
#[cfg(target_os = "linux")]
const NEWER_KERNEL: &str = "use Linux 6.12 or newer with Landlock, or start jails in a process group of their own (`setsid`)";

/// Makes a jail, runs `true` in it, and reports what is missing.
#[cfg(target_os = "linux")]
pub(super) fn check() -> Vec<Finding> {
    use crate::jail::{Confinement, JailPlan, prepare};

    let plan = JailPlan {
        confinement: Confinement::Jail,
        forwards: Vec::new(),
        transparent: true,
        allow_unix_sockets: false,
        hidden_terminal: None,
    };
    let made = prepare(&plan).and_then(|prepared| {
        let gaps = Gaps {
            not_transparent: prepared.not_transparent.clone(),
            signals_leave: prepared.signals_leave,
        };
        let environment = std::env::vars_os();
        let ended = prepared.start(&["true".into()], environment)?.wait(None)?;
        Ok((ended, gaps))
    });
    vec![judge(made)]
}

#[cfg(not(target_os = "linux"))]
pub(super) fn check() -> Vec<Finding> {
    vec![Finding::skipped("jails exist on Linux only")]
}

/// The parts that a jail lacks here, each in a sentence.
#[cfg(target_os = "linux")]
#[derive(Default)]
struct Gaps {
    not_transparent: Option<String>,
    signals_leave: Option<&'static str>,
}

#[cfg(target_os = "linux")]
fn judge(made: Result<(crate::jail::Ended, Gaps), crate::jail::JailError>) -> Finding {
    use crate::jail::Ended;

    match made {
        Ok((Ended::Exited(0), gaps)) => match (gaps.not_transparent, gaps.signals_leave) {
            (None, None) => Finding::ok("proxyctl run can make a jail, with a transparent door"),
            (Some(reason), None) => Finding::note(reason).advise(INSTALL_NFT),
            (None, Some(_)) => {
                Finding::note("signals of a program can leave its jail").advise(NEWER_KERNEL)
            }
            (Some(reason), Some(_)) => {
                Finding::note(format!("signals of a program can leave its jail; {reason}"))
                    .advise(format!("{INSTALL_NFT}; {NEWER_KERNEL}"))
            }
        },
        Ok((ended, _)) => Finding::note(format!(
            "the program true ended with {} in a jail",
            ended.exit_code()
        )),
        Err(error) => {
            let remedy = error.remedy.unwrap_or_else(|| {
                "use `proxyctl run --isolation env`, which confines nothing".to_owned()
            });
            // The proxy itself works without.
            Finding::note(format!("proxyctl run cannot make a jail: {}", error.cause))
                .advise(remedy)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::jail::{Ended, JailError};

    #[test]
    fn k1_each_state_of_the_jail_has_its_finding() {
        let whole = judge(Ok((Ended::Exited(0), Gaps::default())));
        assert_eq!(whole.verdict, Verdict::Ok);
        let partly = |not_transparent: Option<&str>, signals_leave| {
            let gaps = Gaps {
                not_transparent: not_transparent.map(str::to_owned),
                signals_leave,
            };
            let finding = judge(Ok((Ended::Exited(0), gaps)));
            assert_eq!(finding.verdict, Verdict::Note);
            (finding.found, finding.advice.expect("an advice"))
        };
        let (found, advice) = partly(Some("nft is not installed"), None);
        assert_eq!(found, "nft is not installed");
        assert!(!advice.contains("Linux"), "{advice}");
        let (found, advice) = partly(None, Some("signals leave"));
        assert_eq!(
            (found.as_str(), advice.as_str()),
            ("signals of a program can leave its jail", NEWER_KERNEL)
        );
        let (found, advice) = partly(Some("no nft"), Some("signals leave"));
        assert_eq!(found, "signals of a program can leave its jail; no nft");
        assert!(
            advice.contains("nft") && advice.contains("Linux"),
            "{advice}"
        );
        let missing = judge(Err(JailError {
            cause: "the kernel refuses a namespace".to_owned(),
            remedy: Some("permit them".to_owned()),
            has_begun: false,
        }));
        assert_eq!(missing.verdict, Verdict::Note);
        assert_eq!(missing.advice.as_deref(), Some("permit them"));
    }
}
