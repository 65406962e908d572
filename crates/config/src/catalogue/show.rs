//! Values of `/config` that are more than one field. It shows the source of a secret, and neither
//! its value nor its prefix (SPEC B4).

use std::collections::BTreeMap;

use codex_network_policy::{DomainSet, HookId, HookSpec};
use serde_json::{Map, Value, json};

use crate::action::{Action, Injection};
use crate::credentials::{CredentialProvider, DestinationSource};
use crate::secret::SecretSource;
use crate::settings::{Mitm, Principal, ProfileUsers};

/// Everyone who may open sessions.
const EVERYONE: &str = "*";

/// Replaces a secret.
const CONCEALED: &str = "<secret>";

pub(super) fn patterns(set: &DomainSet) -> Value {
    set.rules().map(|rule| rule.pattern).collect()
}

pub(super) fn principals(principals: &[Principal]) -> Value {
    let names = principals.iter().map(|principal| match principal {
        Principal::User(name) => name.clone(),
        Principal::Group(name) => format!("@{name}"),
    });
    names.collect()
}

pub(super) fn profile_users(profiles: Option<&BTreeMap<String, ProfileUsers>>) -> Value {
    let shown = profiles.map(|profiles| {
        let users = profiles.iter().map(|(name, users)| match users {
            ProfileUsers::Everyone => (name.clone(), json!([EVERYONE])),
            ProfileUsers::Only(users) => (name.clone(), principals(users)),
        });
        Value::Object(users.collect())
    });
    shown.unwrap_or_default()
}

pub(super) fn hooks(mitm: &Mitm) -> Value {
    let hooks = mitm.hooks.iter();
    let hooks = hooks.map(|(id, spec)| (spec.name.clone(), hook(mitm, id, spec)));
    Value::Object(hooks.collect())
}

pub(super) fn actions(mitm: &Mitm) -> Value {
    let actions = mitm.actions.iter();
    let actions = actions.map(|(name, spec)| (name.to_owned(), action(spec)));
    Value::Object(actions.collect())
}

pub(super) fn credentials(providers: &[CredentialProvider]) -> Value {
    let providers = providers.iter();
    let providers = providers.map(|one| (one.id.to_string(), credential(one)));
    Value::Object(providers.collect())
}

fn credential(provider: &CredentialProvider) -> Value {
    let from = provider.destinations_from.iter().map(|from| match from {
        DestinationSource::Variable(name, _) => name.to_string(),
        DestinationSource::Tool(tool) => tool.as_str().to_owned(),
    });
    json!({
        "env": texts(&provider.variables),
        "patterns": texts(&provider.patterns),
        "destinations": texts(&provider.destinations),
        "destinations_from": from.collect::<Vec<_>>(),
        "auth": texts(&provider.placements),
        "source": provider.source.to_string(),
        "methods": provider.methods.as_deref().map(texts),
        "require": provider.require,
    })
}

fn hook(mitm: &Mitm, id: HookId, hook: &HookSpec) -> Value {
    let query = hook.query.iter();
    let query = query.map(|(name, values)| (name.clone(), texts(values)));
    let headers = hook.headers.iter();
    let headers = headers.map(|(name, values)| (name.to_string(), texts(values)));
    let actions = mitm.actions.named_of(id).map(|(name, _)| name);
    json!({
        "host": hook.host.to_string(),
        "methods": texts(&hook.methods),
        "path_prefixes": texts(&hook.path_prefixes),
        "query": query.collect::<Map<_, _>>(),
        "headers": headers.collect::<Map<_, _>>(),
        "action": actions.collect::<Vec<_>>(),
    })
}

fn action(action: &Action) -> Value {
    json!({
        "strip_request_headers": texts(&action.strip),
        "inject_request_headers": action.inject.iter().map(injection).collect::<Vec<_>>(),
    })
}

fn injection(injection: &Injection) -> Value {
    let name = injection.name.as_str();
    match &injection.source {
        SecretSource::Environment(variable) => {
            json!({ "name": name, "secret_env_var": variable, "value": CONCEALED })
        }
        SecretSource::File(path) => {
            json!({ "name": name, "secret_file": path, "value": CONCEALED })
        }
    }
}

fn texts<T: ToString>(items: &[T]) -> Value {
    items.iter().map(ToString::to_string).collect()
}
