//! The changes that hooks make to the requests that they cover (SPEC M9): they remove header fields
//! and inject secrets.

use codex_network_policy::{HeaderNameText, HookId};

use crate::secret::{Secret, SecretSource};

/// The changes to a request before it is forwarded: first all fields of `strip` are removed, then
/// each of `inject` replaces all fields of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// Fields to remove.
    pub strip: Vec<HeaderNameText>,
    /// Fields to set.
    pub inject: Vec<Injection>,
}

/// A field that an action sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Its name: never one that frames the message or belongs to one connection.
    pub name: HeaderNameText,
    /// Its value, the prefix and the secret: printable ASCII without white space around it.
    pub value: Secret,
    /// The source of the secret.
    pub source: SecretSource,
}

/// The actions of a configuration, and which of them each hook uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    named: Vec<(String, Action)>,
    /// For each hook the indices of its actions, in the order of its `action` list.
    of_hooks: Vec<Vec<usize>>,
}

impl Actions {
    pub(crate) fn new(named: Vec<(String, Action)>, of_hooks: Vec<Vec<usize>>) -> Self {
        Self { named, of_hooks }
    }

    /// The actions of a hook of the same configuration, in the order of its `action` list.
    pub fn of(&self, hook: HookId) -> impl Iterator<Item = &Action> {
        self.named_of(hook).map(|(_, action)| action)
    }

    /// [`of`](Self::of), with the actions' names.
    pub fn named_of(&self, hook: HookId) -> impl Iterator<Item = (&str, &Action)> {
        let indices = self.of_hooks.get(hook.index()).into_iter().flatten();
        indices
            .filter_map(|index| self.named.get(*index))
            .map(named)
    }

    /// All actions with their names, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Action)> {
        self.named.iter().map(named)
    }

    /// The variables that hold secrets of actions (`secret_env_var`). No program needs them.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let injections = self.named.iter().flat_map(|(_, action)| &action.inject);
        injections.filter_map(|injection| match &injection.source {
            SecretSource::Environment(variable) => Some(variable.as_str()),
            SecretSource::File(_) => None,
        })
    }
}

fn named((name, action): &(String, Action)) -> (&str, &Action) {
    (name, action)
}
