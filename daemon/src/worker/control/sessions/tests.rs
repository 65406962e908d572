//! The rights that an open session needs.

use codex_network_config::{Daemon, Principal, ProfileUsers};

use super::*;
use crate::permitted_callers::Directory;

/// The id of `alice`: another one than that of the user who runs the tests, who is an administrator.
const ALICE: u32 = 4_000_001;

/// The user `alice`.
struct OneUser;

impl Directory for OneUser {
    fn user(&self, name: &str) -> nix::Result<Option<u32>> {
        Ok((name == "alice").then_some(ALICE))
    }

    fn group(&self, _: &str) -> nix::Result<Option<(u32, Vec<u32>)>> {
        Ok(None)
    }

    fn name(&self, _: u32) -> nix::Result<Option<String>> {
        Ok(None)
    }
}

fn permitted(change: impl FnOnce(&mut Daemon, Vec<Principal>)) -> PermittedCallers {
    let mut daemon = Daemon::default();
    change(&mut daemon, vec![Principal::User("alice".to_owned())]);
    PermittedCallers::resolve(&daemon, &OneUser).0
}

#[test]
fn j2_a_session_needs_the_rights_that_it_was_opened_with() {
    let claim = |profile: Option<&str>, is_widened| Claim {
        user: Uid::from_raw(ALICE),
        groups: Vec::new(),
        profile: profile.map(str::to_owned),
        is_widened,
    };
    let user = permitted(|daemon, alice| daemon.control.users = alice);
    let administrator = permitted(|daemon, alice| daemon.control.administrators = alice);
    let observer = permitted(|daemon, alice| daemon.control.observers = alice);
    let restricted = permitted(|daemon, alice| {
        daemon.control.users = alice;
        let nobody = ("build".to_owned(), ProfileUsers::Only(Vec::new()));
        daemon.sessions.profiles = Some([nobody].into());
    });
    let stranger = PermittedCallers::default();
    let defined = |name: &str| name == "build";
    for (permitted, claim, wanted) in [
        (&user, claim(None, false), None),
        (&user, claim(Some("build"), false), None),
        (&administrator, claim(None, true), None),
        (
            &observer,
            claim(None, false),
            Some("its user may no longer open sessions"),
        ),
        (
            &stranger,
            claim(None, false),
            Some("its user may no longer open sessions"),
        ),
        (
            &user,
            claim(None, true),
            Some("it was widened (--allow or --learn), and its user is no longer an administrator"),
        ),
        (
            &user,
            claim(Some("gone"), false),
            Some("its permission profile is no longer defined"),
        ),
        (
            &restricted,
            claim(Some("build"), false),
            Some("its user may no longer choose its permission profile"),
        ),
        (&restricted, claim(None, false), None),
    ] {
        assert_eq!(claim.missing(permitted, defined), wanted);
    }
}
