//! The change of one entry of the lists, and whether two policies differ in more than that.

use alloc::string::{String, ToString as _};

use hashbrown::HashSet;

use crate::domain_set::DomainSet;
use crate::pattern::Pattern;
use crate::policy::{Lists, Policy};

/// The change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryChange {
    /// No change.
    Nothing,
    /// An entry of the allow list is added.
    Allow(Pattern),
    /// An entry of the deny list is added. It may take the place of one of the allow list.
    Deny(Pattern),
    /// An entry of either list is removed.
    Unset(Pattern),
}

/// The list of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Allowed,
    Denied,
}

impl EntryChange {
    /// Whether the new policy differs from the old one in this change at most. Lines of the rules do not count.
    pub fn is_all_between(&self, old: &Policy, new: &Policy) -> bool {
        // No field is left out: a new one does not compile without a decision here.
        let Policy {
            state,
            mode,
            allow_local_binding,
            interception,
            unlisted,
            enforcement,
            must_enforce,
            lists,
            session,
        } = old;
        // The rules of a session are not in a configuration.
        let is_of_session = session.is_some() || new.session.is_some();
        !is_of_session
            && *state == new.state
            && *mode == new.mode
            && *allow_local_binding == new.allow_local_binding
            && *interception == new.interception
            && *unlisted == new.unlisted
            && *enforcement == new.enforcement
            && *must_enforce == new.must_enforce
            && self.is_all_between_lists(lists, &new.lists)
    }

    fn is_all_between_lists(&self, old: &Lists, new: &Lists) -> bool {
        let Lists {
            allowed,
            local_exceptions,
            denied,
            intercepted,
        } = old;
        let same_exceptions = match (local_exceptions, &new.local_exceptions) {
            (None, None) => true,
            (Some(old), Some(new)) => self.is_all_in(List::Allowed, old, new),
            _ => false,
        };
        same_exceptions
            && *intercepted == new.intercepted
            && self.is_all_in(List::Allowed, allowed, &new.allowed)
            && self.is_all_in(List::Denied, denied, &new.denied)
    }

    fn is_all_in(&self, list: List, old: &DomainSet, new: &DomainSet) -> bool {
        let texts = |set: &DomainSet| set.rules().map(|rule| rule.pattern).collect::<HashSet<_>>();
        let (old, new) = (texts(old), texts(new));
        let is_pattern = |pattern: Option<&Pattern>, text: &String| {
            pattern.is_some_and(|it| it.to_string() == *text)
        };
        let mut added = new.difference(&old);
        let mut removed = old.difference(&new);
        added.all(|text| is_pattern(self.may_add(list), text))
            && removed.all(|text| is_pattern(self.may_remove(list), text))
    }

    fn may_add(&self, list: List) -> Option<&Pattern> {
        match (self, list) {
            (Self::Allow(pattern), List::Allowed) | (Self::Deny(pattern), List::Denied) => {
                Some(pattern)
            }
            _ => None,
        }
    }

    fn may_remove(&self, list: List) -> Option<&Pattern> {
        match (self, list) {
            (Self::Deny(pattern), List::Allowed) | (Self::Unset(pattern), _) => Some(pattern),
            _ => None,
        }
    }
}
