//! `[daemon.control] administrators` and `observers`: from names to ids (SPEC K3).
//!
//! Names are looked up once, when the configuration is loaded: whoever serves callers later may not
//! be able to read the user database, and must not wait for it. A group stands for its id and for
//! its members as of then; who joins or leaves a group counts from the next reload.

use std::collections::HashSet;

use codex_network_config::{Control, Principal};
use codex_network_control::Access;
use nix::unistd::{Gid, Group, Uid, User};

/// The callers whom the configuration admits, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::worker) struct Admitted {
    administrators: Ids,
    observers: Ids,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ids {
    users: HashSet<u32>,
    groups: HashSet<u32>,
}

/// What names stand for: the system's user database, or a test's.
pub(in crate::worker) trait Directory {
    /// The id of a user.
    fn user(&self, name: &str) -> nix::Result<Option<u32>>;
    /// The id of a group, and the ids of its members.
    fn group(&self, name: &str) -> nix::Result<Option<(u32, Vec<u32>)>>;
}

/// The user database of this machine.
pub(in crate::worker) struct SystemDirectory;

impl Directory for SystemDirectory {
    fn user(&self, name: &str) -> nix::Result<Option<u32>> {
        Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
    }

    fn group(&self, name: &str) -> nix::Result<Option<(u32, Vec<u32>)>> {
        let Some(group) = Group::from_name(name)? else {
            return Ok(None);
        };
        let mut members = Vec::new();
        for member in &group.mem {
            // A member without an account cannot call either.
            members.extend(self.user(member)?);
        }
        Ok(Some((group.gid.as_raw(), members)))
    }
}

impl Admitted {
    /// Looks the names up. Also gives a sentence for each that admits nobody.
    pub(in crate::worker) fn resolve(
        control: &Control,
        directory: &impl Directory,
    ) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let admitted = Self {
            administrators: Ids::of(
                "administrators",
                &control.administrators,
                directory,
                &mut problems,
            ),
            observers: Ids::of("observers", &control.observers, directory, &mut problems),
        };
        (admitted, problems)
    }

    /// What the configuration grants a caller; nothing for strangers.
    pub(super) fn access(&self, user: Uid, group: Gid) -> Option<Access> {
        if self.administrators.hold(user, group) {
            Some(Access::Administer)
        } else if self.observers.hold(user, group) {
            Some(Access::Observe)
        } else {
            None
        }
    }
}

impl Ids {
    fn of(
        key: &str,
        principals: &[Principal],
        directory: &impl Directory,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut ids = Self::default();
        for principal in principals {
            let (written, found) = match principal {
                Principal::User(name) => (name.clone(), ids.add_user(name, directory)),
                Principal::Group(name) => (format!("@{name}"), ids.add_group(name, directory)),
            };
            let why = match found {
                Ok(true) => continue,
                Ok(false) => "this system does not know that name".to_owned(),
                Err(error) => format!("it cannot be looked up: {error}"),
            };
            problems.push(format!(
                "[daemon.control] {key} has {written:?}, which admits nobody: {why}"
            ));
        }
        ids
    }

    fn add_user(&mut self, name: &str, directory: &impl Directory) -> nix::Result<bool> {
        let user = directory.user(name)?;
        self.users.extend(user);
        Ok(user.is_some())
    }

    fn add_group(&mut self, name: &str, directory: &impl Directory) -> nix::Result<bool> {
        let Some((group, members)) = directory.group(name)? else {
            return Ok(false);
        };
        self.groups.insert(group);
        self.users.extend(members);
        Ok(true)
    }

    fn hold(&self, user: Uid, group: Gid) -> bool {
        self.users.contains(&user.as_raw()) || self.groups.contains(&group.as_raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `alice` 1000, `bob` 1001; `staff` 50 with `bob` in it.
    struct Village;

    impl Directory for Village {
        fn user(&self, name: &str) -> nix::Result<Option<u32>> {
            match name {
                "alice" => Ok(Some(1000)),
                "bob" => Ok(Some(1001)),
                "unreachable" => Err(nix::Error::EIO),
                _ => Ok(None),
            }
        }

        fn group(&self, name: &str) -> nix::Result<Option<(u32, Vec<u32>)>> {
            Ok((name == "staff").then(|| (50, vec![1001])))
        }
    }

    fn admitted(administrators: &[Principal], observers: &[Principal]) -> (Admitted, Vec<String>) {
        let control = Control {
            socket: None,
            administrators: administrators.to_vec(),
            observers: observers.to_vec(),
        };
        Admitted::resolve(&control, &Village)
    }

    fn access(admitted: &Admitted, user: u32, group: u32) -> Option<Access> {
        admitted.access(Uid::from_raw(user), Gid::from_raw(group))
    }

    #[test]
    fn k3_users_and_the_members_of_groups_are_admitted_and_nobody_else() {
        let alice = Principal::User("alice".to_owned());
        let staff = Principal::Group("staff".to_owned());
        let (admitted, problems) = admitted(&[alice], &[staff]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(access(&admitted, 1000, 1000), Some(Access::Administer));
        // By membership, and by the group that the caller runs with.
        assert_eq!(access(&admitted, 1001, 1001), Some(Access::Observe));
        assert_eq!(access(&admitted, 2000, 50), Some(Access::Observe));
        assert_eq!(access(&admitted, 2000, 2000), None);
        // Ids of users and of groups are different things.
        assert_eq!(access(&admitted, 50, 1000), None);
    }

    #[test]
    fn k3_an_administrator_who_also_observes_administers() {
        let bob = Principal::User("bob".to_owned());
        let staff = Principal::Group("staff".to_owned());
        let (admitted, _) = admitted(&[bob], &[staff]);
        assert_eq!(access(&admitted, 1001, 1001), Some(Access::Administer));
    }

    #[test]
    fn k3_names_that_mean_nobody_are_told_and_admit_nobody() {
        let user = |name: &str| Principal::User(name.to_owned());
        let nobody = Principal::Group("nobody".to_owned());
        let (admitted, problems) = admitted(&[user("eve"), user("unreachable")], &[nobody]);
        assert_eq!(admitted, Admitted::default());
        assert_eq!(
            problems,
            [
                "[daemon.control] administrators has \"eve\", which admits nobody: this system does not know that name",
                "[daemon.control] administrators has \"unreachable\", which admits nobody: it cannot be looked up: EIO: I/O error",
                "[daemon.control] observers has \"@nobody\", which admits nobody: this system does not know that name",
            ]
        );
    }
}
