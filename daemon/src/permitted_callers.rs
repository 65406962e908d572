//! `[daemon.control] administrators`, `observers` and `users`: from names to ids (SPEC K3).
//!
//! The loader looks names up once, when it loads the configuration: the worker, which serves the
//! callers, cannot read the user database and must not wait for it. The worker gets ids. A group
//! stands for its id and for its members at that time. A change of a group's members counts from
//! the next reload. A caller is in a group if the user database says so, or if the kernel does: a
//! session may have groups that no database lists.

use std::collections::HashSet;

use codex_network_config::{Control, Principal};
use codex_network_control::Access;
use nix::unistd::{Gid, Group, Uid, User};

/// The callers whom the configuration admits, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PermittedCallers {
    /// The user that runs the service, and so administers it. Not the user that the worker becomes,
    /// which may share an account with other services.
    owner: u32,
    administrators: Ids,
    observers: Ids,
    users: Ids,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ids {
    users: HashSet<u32>,
    groups: HashSet<u32>,
}

/// Looks names up: in the system's user database, or a test's.
pub(crate) trait Directory {
    /// The id of a user.
    fn user(&self, name: &str) -> nix::Result<Option<u32>>;
    /// The id of a group, and the ids of its members.
    fn group(&self, name: &str) -> nix::Result<Option<(u32, Vec<u32>)>>;
}

/// The user database of this machine.
pub(crate) struct SystemDirectory;

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
            // A member without an account cannot call.
            members.extend(self.user(member)?);
        }
        Ok(Some((group.gid.as_raw(), members)))
    }
}

impl PermittedCallers {
    /// Looks the names up. Also returns a sentence for each name that no account or group has.
    pub(crate) fn resolve(control: &Control, directory: &impl Directory) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let admitted = Self {
            owner: Uid::effective().as_raw(),
            administrators: Ids::of(
                "administrators",
                &control.administrators,
                directory,
                &mut problems,
            ),
            observers: Ids::of("observers", &control.observers, directory, &mut problems),
            users: Ids::of("users", &control.users, directory, &mut problems),
        };
        (admitted, problems)
    }

    /// The ids as bytes for the worker: six lists of numbers, each after its length.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.owner.to_le_bytes().to_vec();
        for ids in self.lists() {
            bytes.extend_from_slice(&(ids.len() as u64).to_le_bytes());
            bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        bytes
    }

    /// Reads the output of [`to_bytes`](Self::to_bytes) from the front, and returns the rest too.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (owner, rest) = bytes.split_first_chunk()?;
        let owner = u32::from_le_bytes(*owner);
        bytes = rest;
        let mut list = || -> Option<HashSet<u32>> {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (ids, rest) = rest.split_at_checked(length.checked_mul(4)?)?;
            bytes = rest;
            let ids = ids.chunks_exact(4).filter_map(|id| id.try_into().ok());
            Some(ids.map(u32::from_le_bytes).collect())
        };
        let administrators = Ids {
            users: list()?,
            groups: list()?,
        };
        let observers = Ids {
            users: list()?,
            groups: list()?,
        };
        let users = Ids {
            users: list()?,
            groups: list()?,
        };
        Some((
            Self {
                owner,
                administrators,
                observers,
                users,
            },
            bytes,
        ))
    }

    fn lists(&self) -> [&HashSet<u32>; 6] {
        let Self {
            owner: _,
            administrators,
            observers,
            users,
        } = self;
        [
            &administrators.users,
            &administrators.groups,
            &observers.users,
            &observers.groups,
            &users.users,
            &users.groups,
        ]
    }

    /// The access of a caller with these groups; `None` for strangers. Root and the user that runs the
    /// service administer.
    pub(crate) fn access(&self, user: Uid, groups: &[Gid]) -> Option<Access> {
        if user.is_root() || user.as_raw() == self.owner || self.administrators.hold(user, groups) {
            return Some(Access::Administer);
        }
        match (
            self.observers.hold(user, groups),
            self.users.hold(user, groups),
        ) {
            (true, true) => Some(Access::ObserveAndUseSessions),
            (true, false) => Some(Access::Observe),
            (false, true) => Some(Access::UseSessions),
            (false, false) => None,
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
                "[daemon.control] {key} has {written:?}, which permits no caller: {why}"
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

    fn hold(&self, user: Uid, groups: &[Gid]) -> bool {
        let is_held = |group: &Gid| self.groups.contains(&group.as_raw());
        self.users.contains(&user.as_raw()) || groups.iter().any(is_held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user that runs the service.
    const OWNER: u32 = 900;

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

    fn admitted(
        administrators: &[Principal],
        observers: &[Principal],
    ) -> (PermittedCallers, Vec<String>) {
        let control = Control {
            socket: None,
            administrators: administrators.to_vec(),
            observers: observers.to_vec(),
            users: Vec::new(),
        };
        let (admitted, problems) = PermittedCallers::resolve(&control, &Village);
        // The user who runs the tests may have any id, even one of those below.
        let admitted = PermittedCallers {
            owner: OWNER,
            ..admitted
        };
        (admitted, problems)
    }

    fn access(admitted: &PermittedCallers, user: u32, group: u32) -> Option<Access> {
        admitted.access(Uid::from_raw(user), &[Gid::from_raw(group)])
    }

    #[test]
    fn k3_only_named_users_and_the_members_of_named_groups_are_permitted() {
        let alice = Principal::User("alice".to_owned());
        let staff = Principal::Group("staff".to_owned());
        let (admitted, problems) = admitted(&[alice], &[staff]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(access(&admitted, 1000, 1000), Some(Access::Administer));
        // By membership, and by the caller's own group.
        assert_eq!(access(&admitted, 1001, 1001), Some(Access::Observe));
        assert_eq!(access(&admitted, 2000, 50), Some(Access::Observe));
        assert_eq!(access(&admitted, 2000, 2000), None);
        // By a supplementary group.
        let groups = [7, 50, 2000].map(Gid::from_raw);
        let by_group = admitted.access(Uid::from_raw(2000), &groups);
        assert_eq!(by_group, Some(Access::Observe));
        assert_eq!(admitted.access(Uid::from_raw(2000), &groups[..1]), None);
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
    fn k3_unknown_names_are_reported_and_permit_no_caller() {
        let user = |name: &str| Principal::User(name.to_owned());
        let nobody = Principal::Group("nobody".to_owned());
        let (admitted, problems) = admitted(&[user("eve"), user("unreachable")], &[nobody]);
        let owner_alone = PermittedCallers {
            owner: OWNER,
            ..PermittedCallers::default()
        };
        assert_eq!(admitted, owner_alone);
        assert_eq!(
            problems,
            [
                "[daemon.control] administrators has \"eve\", which permits no caller: this system does not know that name",
                "[daemon.control] administrators has \"unreachable\", which permits no caller: it cannot be looked up: EIO: I/O error",
                "[daemon.control] observers has \"@nobody\", which permits no caller: this system does not know that name",
            ]
        );
    }
}
