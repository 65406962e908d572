//! The `mitm` table of `GET /config`. It shows the source of a secret, and neither its value nor
//! its prefix (SPEC B4).

use codex_network_config::{Action, Injection, Mitm, SecretSource, Settings};
use codex_network_policy::{HookId, HookSpec, Interception};
use serde_json::{Map, Value, json};

/// Replaces a secret.
const CONCEALED: &str = "<secret>";

pub(super) fn effective(settings: &Settings) -> Value {
    let mitm = &settings.mitm;
    let hooks = mitm.hooks.iter().map(|(id, hook)| {
        let shown = show_hook(mitm, id, hook);
        (hook.name.clone(), shown)
    });
    let actions = mitm.actions.iter();
    let actions = actions.map(|(name, action)| (name.to_owned(), show_action(action)));
    json!({
        "allowed": settings.policy.interception() == Interception::Automatic,
        "inspect": mitm.inspect,
        "max_body_bytes": mitm.max_body_bytes,
        "ca_cert_path": mitm.ca_paths.as_ref().map(|ca| &ca.certificate),
        "ca_key_path": mitm.ca_paths.as_ref().map(|ca| &ca.key),
        "hooks": hooks.collect::<Map<_, _>>(),
        "actions": actions.collect::<Map<_, _>>(),
    })
}

fn show_hook(mitm: &Mitm, id: HookId, hook: &HookSpec) -> Value {
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

fn show_action(action: &Action) -> Value {
    json!({
        "strip_request_headers": texts(&action.strip),
        "inject_request_headers": action.inject.iter().map(show_injection).collect::<Vec<_>>(),
    })
}

fn show_injection(injection: &Injection) -> Value {
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
