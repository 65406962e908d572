//! The users and groups of `[daemon.control]` and `[daemon.sessions] profiles`: from names to ids (SPEC
//! K3, J2, J4).
//!
//! The loader looks names up once, when it loads the configuration: the worker, which serves the
//! callers, cannot read the user database and must not wait for it. The worker gets ids. A group
//! stands for its id and for its members at that time. A change of a group's members counts from
//! the next reload. A caller is in a group if the user database says so, or if the kernel does: a
//! session may have groups that no database lists.

use std::collections::{BTreeMap, HashSet};

use codex_network_config::{Control, Daemon, Principal, ProfileUsers};
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
    /// Those who may open sessions.
    users: Ids,
    /// Who may choose which profile for a session; `None` if everyone may choose every profile.
    profiles: Option<BTreeMap<String, ProfileIds>>,
    /// The names of root, of the owner, and of the users that the lists name.
    names: Names,
}

/// Who may choose a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ProfileIds {
    Everyone,
    Only(Ids),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ids {
    users: HashSet<u32>,
    groups: HashSet<u32>,
}

/// The names of users, for records.
type Names = BTreeMap<u32, String>;

/// Looks names up: in the system's user database, or a test's.
pub(crate) trait Directory {
    /// The id of a user.
    fn user(&self, name: &str) -> nix::Result<Option<u32>>;
    /// The id of a group, and the ids of its members.
    fn group(&self, name: &str) -> nix::Result<Option<(u32, Vec<u32>)>>;
    /// The name of a user.
    fn name(&self, id: u32) -> nix::Result<Option<String>>;
}

/// The user database of this machine.
pub(crate) struct SystemDirectory;

impl Directory for SystemDirectory {
    fn user(&self, name: &str) -> nix::Result<Option<u32>> {
        Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
    }

    fn name(&self, id: u32) -> nix::Result<Option<String>> {
        Ok(User::from_uid(Uid::from_raw(id))?.map(|user| user.name))
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
    pub(crate) fn resolve(daemon: &Daemon, directory: &impl Directory) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let control = &daemon.control;
        let mut of = |key: &str, principals: &[Principal]| {
            Ids::of(key, principals, directory, &mut problems)
        };
        let admitted = Self {
            owner: Uid::effective().as_raw(),
            administrators: of("[daemon.control] administrators", &control.administrators),
            observers: of("[daemon.control] observers", &control.observers),
            users: of("[daemon.control] users", &control.users),
            profiles: daemon.sessions.profiles.as_ref().map(|profiles| {
                let ids = profiles.iter().map(|(name, users)| {
                    let key = format!("[daemon.sessions] profiles.{name:?}");
                    let ids = match users {
                        ProfileUsers::Everyone => ProfileIds::Everyone,
                        ProfileUsers::Only(users) => ProfileIds::Only(of(&key, users)),
                    };
                    (name.clone(), ids)
                });
                ids.collect()
            }),
            names: names(control, directory),
        };
        (admitted, problems)
    }

    /// The ids as bytes for the worker: lists of numbers, each after its length, then the profiles.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.owner.to_le_bytes().to_vec();
        for ids in [&self.administrators, &self.observers, &self.users] {
            ids.put(&mut bytes);
        }
        put_length(&mut bytes, self.names.len());
        for (id, name) in &self.names {
            bytes.extend_from_slice(&id.to_le_bytes());
            put_text(&mut bytes, name);
        }
        let Some(profiles) = &self.profiles else {
            bytes.push(UNRESTRICTED);
            return bytes;
        };
        bytes.push(RESTRICTED);
        put_length(&mut bytes, profiles.len());
        for (name, ids) in profiles {
            put_text(&mut bytes, name);
            match ids {
                ProfileIds::Everyone => bytes.push(UNRESTRICTED),
                ProfileIds::Only(ids) => {
                    bytes.push(RESTRICTED);
                    ids.put(&mut bytes);
                }
            }
        }
        bytes
    }

    /// Reads the output of [`to_bytes`](Self::to_bytes) from the front, and returns the rest too.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (owner, rest) = bytes.split_first_chunk()?;
        let owner = u32::from_le_bytes(*owner);
        bytes = rest;
        let permitted = Self {
            owner,
            administrators: Ids::take(&mut bytes)?,
            observers: Ids::take(&mut bytes)?,
            users: Ids::take(&mut bytes)?,
            names: take_names(&mut bytes)?,
            profiles: take_profiles(&mut bytes)?,
        };
        Some((permitted, bytes))
    }

    /// The access of a caller with these groups; `None` for strangers. Root and the user that runs the
    /// service administer.
    pub(crate) fn access(&self, user: Uid, groups: &[Gid]) -> Option<Access> {
        if self.administers(user, groups) {
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

    /// Whether a caller who may open sessions may choose this permission profile (SPEC J4).
    pub(crate) fn may_choose(&self, profile: &str, user: Uid, groups: &[Gid]) -> bool {
        let Some(profiles) = &self.profiles else {
            return true;
        };
        let is_listed = match profiles.get(profile) {
            Some(ProfileIds::Everyone) => true,
            Some(ProfileIds::Only(ids)) => ids.hold(user, groups),
            None => false,
        };
        is_listed || self.administers(user, groups)
    }

    /// The name of a user, if it is known.
    pub(crate) fn name(&self, user: u32) -> Option<&str> {
        self.names.get(&user).map(String::as_str)
    }

    fn administers(&self, user: Uid, groups: &[Gid]) -> bool {
        user.is_root() || user.as_raw() == self.owner || self.administrators.hold(user, groups)
    }
}

/// In the bytes for the worker: everyone, or a list follows.
const UNRESTRICTED: u8 = 0;
const RESTRICTED: u8 = 1;

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&(length as u64).to_le_bytes());
}

fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    usize::try_from(u64::from_le_bytes(*length)).ok()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = take_length(bytes)?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

fn take_names(bytes: &mut &[u8]) -> Option<Names> {
    let mut names = Names::new();
    for _ in 0..take_length(bytes)? {
        let (id, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        names.insert(u32::from_le_bytes(*id), take_text(bytes)?);
    }
    Some(names)
}

/// The names of root, of the user that runs the service, and of the users that the lists name.
fn names(control: &Control, directory: &impl Directory) -> Names {
    let lists = [&control.administrators, &control.observers, &control.users];
    let principals = lists.into_iter().flatten();
    let named = principals.filter_map(|principal| match principal {
        Principal::User(name) => Some((directory.user(name).ok()??, name.clone())),
        Principal::Group(_) => None,
    });
    let own = [Uid::from_raw(0), Uid::effective()];
    let own = own.into_iter().filter_map(|id| {
        let name = directory.name(id.as_raw()).ok()??;
        Some((id.as_raw(), name))
    });
    own.chain(named).collect()
}

/// Whether a list follows.
fn take_restricted(bytes: &mut &[u8]) -> Option<bool> {
    let (kind, rest) = bytes.split_first()?;
    *bytes = rest;
    match *kind {
        UNRESTRICTED => Some(false),
        RESTRICTED => Some(true),
        _ => None,
    }
}

#[expect(
    clippy::option_option,
    reason = "the outer one is for malformed bytes, the inner one is the value"
)]
fn take_profiles(bytes: &mut &[u8]) -> Option<Option<BTreeMap<String, ProfileIds>>> {
    if !take_restricted(bytes)? {
        return Some(None);
    }
    let mut profiles = BTreeMap::new();
    for _ in 0..take_length(bytes)? {
        let name = take_text(bytes)?;
        let ids = if take_restricted(bytes)? {
            ProfileIds::Only(Ids::take(bytes)?)
        } else {
            ProfileIds::Everyone
        };
        profiles.insert(name, ids);
    }
    Some(Some(profiles))
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
                "{key} has {written:?}, which permits no caller: {why}"
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

    /// The ids as bytes: two lists of numbers, each after its length.
    fn put(&self, bytes: &mut Vec<u8>) {
        for ids in [&self.users, &self.groups] {
            put_length(bytes, ids.len());
            bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
    }

    /// Reads the output of [`put`](Self::put) from the front.
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut list = || -> Option<HashSet<u32>> {
            let length = take_length(bytes)?;
            let (ids, rest) = bytes.split_at_checked(length.checked_mul(4)?)?;
            *bytes = rest;
            let ids = ids.chunks_exact(4).filter_map(|id| id.try_into().ok());
            Some(ids.map(u32::from_le_bytes).collect())
        };
        Some(Self {
            users: list()?,
            groups: list()?,
        })
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

    /// `alice` 1000, `bob` 1001, `carol` 1002; `staff` 50 with `bob` in it.
    struct Village;

    impl Directory for Village {
        fn user(&self, name: &str) -> nix::Result<Option<u32>> {
            match name {
                "alice" => Ok(Some(1000)),
                "bob" => Ok(Some(1001)),
                "carol" => Ok(Some(1002)),
                "unreachable" => Err(nix::Error::EIO),
                _ => Ok(None),
            }
        }

        fn group(&self, name: &str) -> nix::Result<Option<(u32, Vec<u32>)>> {
            Ok((name == "staff").then(|| (50, vec![1001])))
        }

        fn name(&self, _: u32) -> nix::Result<Option<String>> {
            Ok(None)
        }
    }

    fn admitted(
        administrators: &[Principal],
        observers: &[Principal],
    ) -> (PermittedCallers, Vec<String>) {
        let mut daemon = Daemon::default();
        daemon.control.administrators = administrators.to_vec();
        daemon.control.observers = observers.to_vec();
        resolved(&daemon)
    }

    fn resolved(daemon: &Daemon) -> (PermittedCallers, Vec<String>) {
        let (admitted, problems) = PermittedCallers::resolve(daemon, &Village);
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

    /// `bob` and the group `staff` may open sessions, and profiles have users.
    fn with_profiles() -> PermittedCallers {
        let mut daemon = Daemon::default();
        let alice = Principal::User("alice".to_owned());
        daemon.control.administrators = vec![alice.clone()];
        daemon.control.observers = vec![Principal::User("carol".to_owned())];
        daemon.control.users = vec![Principal::Group("staff".to_owned())];
        let only = |user| ProfileUsers::Only(vec![user]);
        let profiles = [
            ("open", ProfileUsers::Everyone),
            ("staff", only(Principal::Group("staff".to_owned()))),
            ("alice", only(alice)),
            ("empty", ProfileUsers::Only(Vec::new())),
        ];
        let profiles = profiles.map(|(name, users)| (name.to_owned(), users));
        daemon.sessions.profiles = Some(profiles.into());
        let (admitted, problems) = resolved(&daemon);
        assert_eq!(problems, [""; 0]);
        admitted
    }

    #[test]
    fn j2_users_open_sessions_and_observers_do_not() {
        let admitted = with_profiles();
        assert_eq!(access(&admitted, 1001, 1001), Some(Access::UseSessions));
        assert_eq!(access(&admitted, 2000, 50), Some(Access::UseSessions));
        for (user, expected) in [
            (0, true),
            (OWNER, true),
            (1000, true),
            (1001, true),
            (1002, false),
            (2000, false),
        ] {
            let access = admitted.access(Uid::from_raw(user), &[]);
            let may = access.is_some_and(|access| access.covers(Access::UseSessions));
            assert_eq!(may, expected, "{user}");
        }
    }

    #[test]
    fn j4_a_profile_is_for_those_that_the_table_names_and_for_administrators() {
        let admitted = with_profiles();
        for (profile, user, expected) in [
            ("open", 1001, true),
            ("staff", 1001, true),
            ("alice", 1001, false),
            ("empty", 1001, false),
            ("not in the table", 1001, false),
            ("empty", 1000, true),
            ("not in the table", 1000, true),
            ("not in the table", 0, true),
        ] {
            let may = admitted.may_choose(profile, Uid::from_raw(user), &[]);
            assert_eq!(may, expected, "{profile} {user}");
        }
        let unrestricted = PermittedCallers::default();
        assert!(unrestricted.may_choose("any", Uid::from_raw(1001), &[]));
    }

    #[test]
    fn j4_the_worker_reads_what_the_loader_wrote_and_nothing_that_is_cut() {
        let admitted = with_profiles();
        let bytes = admitted.to_bytes();
        let read = PermittedCallers::from_bytes(&bytes);
        assert_eq!(read, Some((admitted, &[][..])));
        for end in 0..bytes.len() {
            assert_eq!(PermittedCallers::from_bytes(&bytes[..end]), None, "{end}");
        }
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
