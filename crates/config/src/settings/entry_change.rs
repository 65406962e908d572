//! Whether settings differ in more than one entry of the lists (SPEC C14).

use std::collections::BTreeSet;

use codex_network_policy::EntryChange;

use super::{Profile, Settings};
use crate::managed::Managed;

impl Settings {
    /// Whether the new settings differ from these in this change at most, in the selected policy and in the profiles of
    /// sessions. The files and lines do not count, but everything else does: values of secrets too.
    pub fn differ_only_in(&self, change: &EntryChange, new: &Self) -> bool {
        // No field is left out: a new one does not compile without a decision here.
        let Self {
            policy,
            listen,
            socks5_udp,
            allow_upstream_proxy,
            mitm,
            unix_sockets,
            credential_broker,
            plaintext_credential_injection,
            credential_providers,
            daemon,
            presets,
            profiles: _,
            managed,
            lines: _,
            files: _,
        } = self;
        change.is_all_between(policy, &new.policy)
            && *listen == new.listen
            && *socks5_udp == new.socks5_udp
            && *allow_upstream_proxy == new.allow_upstream_proxy
            && *mitm == new.mitm
            && *unix_sockets == new.unix_sockets
            && *credential_broker == new.credential_broker
            && *plaintext_credential_injection == new.plaintext_credential_injection
            && *credential_providers == new.credential_providers
            && *daemon == new.daemon
            && *presets == new.presets
            && requires_the_same(managed, &new.managed)
            && self.other_profiles(change, new).is_empty()
    }

    /// The names of the profiles of sessions that differ in more than this change.
    pub fn other_profiles<'a>(&'a self, change: &EntryChange, new: &'a Self) -> Vec<&'a str> {
        let names: BTreeSet<&String> = self.profiles.keys().chain(new.profiles.keys()).collect();
        let is_same = |name: &String| match (self.profiles.get(name), new.profiles.get(name)) {
            (Some(old), Some(new)) => old.differs_only_in(change, new),
            _ => false,
        };
        let others = names.into_iter().filter(|name| !is_same(name));
        others.map(String::as_str).collect()
    }
}

impl Profile {
    fn differs_only_in(&self, change: &EntryChange, new: &Self) -> bool {
        let Self {
            policy,
            hooks,
            actions,
            unix_sockets,
            credential_broker,
            plaintext_credential_injection,
            credential_providers,
        } = self;
        change.is_all_between(policy, &new.policy)
            && *hooks == new.hooks
            && *actions == new.actions
            && *unix_sockets == new.unix_sockets
            && *credential_broker == new.credential_broker
            && *plaintext_credential_injection == new.plaintext_credential_injection
            && *credential_providers == new.credential_providers
    }
}

/// Whether requirements have the same meaning.
fn requires_the_same(old: &Managed, new: &Managed) -> bool {
    let Managed {
        pins: _,
        mode,
        entries: _,
        allowed_domains_only,
    } = old;
    // The lines have the meaning of the pins and the entries.
    *mode == new.mode
        && *allowed_domains_only == new.allowed_domains_only
        && old.lines() == new.lines()
}
