//! Whether `proxyctl run` can make a jail on this machine.

use super::finding::Finding;

/// Makes a jail, runs `true` in it, and reports what is missing.
#[cfg(target_os = "linux")]
pub(super) fn check() -> Vec<Finding> {
    use crate::jail::{Confinement, JailPlan, prepare};

    let plan = JailPlan {
        confinement: Confinement::Jail,
        forwards: Vec::new(),
        transparent: true,
        allow_unix_sockets: false,
    };
    let made = prepare(&plan).and_then(|prepared| {
        let not_transparent = prepared.not_transparent.clone();
        let environment = std::env::vars_os();
        let ended = prepared.start(&["true".into()], environment)?.wait()?;
        Ok((ended, not_transparent))
    });
    vec![judge(made)]
}

#[cfg(not(target_os = "linux"))]
pub(super) fn check() -> Vec<Finding> {
    vec![Finding::skipped("jails exist on Linux only")]
}

#[cfg(target_os = "linux")]
fn judge(made: Result<(crate::jail::Ended, Option<String>), crate::jail::JailError>) -> Finding {
    use crate::jail::Ended;

    match made {
        Ok((Ended::Exited(0), None)) => {
            Finding::ok("proxyctl run can make a jail, with a transparent door")
        }
        Ok((Ended::Exited(0), Some(reason))) => {
            Finding::note(reason).advise("install nft (package nftables)")
        }
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
        let whole = judge(Ok((Ended::Exited(0), None)));
        assert_eq!(whole.verdict, Verdict::Ok);
        let reason = "nft is not installed".to_owned();
        let partly = judge(Ok((Ended::Exited(0), Some(reason))));
        assert_eq!(partly.verdict, Verdict::Note);
        assert_eq!(partly.found, "nft is not installed");
        let missing = judge(Err(JailError {
            cause: "the kernel refuses a namespace".to_owned(),
            remedy: Some("permit them".to_owned()),
        }));
        assert_eq!(missing.verdict, Verdict::Note);
        assert_eq!(missing.advice.as_deref(), Some("permit them"));
    }
}
