//! Rows about unix sockets.

use std::collections::HashMap;

use codex_network_policy::{
    ListedUnixSocket, Mode, Policy, PolicySpec, UnixSocketList, UnixSocketPath, UnixSocketRequest,
    UnixSocketSupport,
};
use serde::Deserialize;

use super::{Row, same, told, yes};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    name: String,
    spec: String,
    #[serde(default = "yes")]
    enabled: bool,
    mode: Option<String>,
    /// Whether the platform proxies to unix sockets.
    #[serde(default = "yes")]
    served: bool,
    method: Option<String>,
    upgrade: Option<String>,
    path: String,
    /// The list; `["*"]` for all.
    list: Vec<String>,
    /// What is there: paths, and the files that they lead to.
    #[serde(default)]
    files: HashMap<String, String>,
    says: String,
}

impl Asked {
    pub(super) fn check(&self) -> Result<(), String> {
        let policy = Policy::compile(&PolicySpec {
            enabled: self.enabled,
            mode: match &self.mode {
                Some(mode) => mode.parse().expect("the row has a mode"),
                None => Mode::Full,
            },
            ..PolicySpec::default()
        })
        .expect("no lists");
        let path = UnixSocketPath::parse(self.path.as_bytes()).ok();
        let read = |path: &str| UnixSocketPath::parse(path.as_bytes()).expect("an absolute path");
        let found = |path: &UnixSocketPath| {
            let mut files = self.files.iter();
            files.find_map(|(at, file)| (read(at) == *path).then(|| read(file)))
        };
        let entries: Vec<_> = self
            .list
            .iter()
            .filter(|entry| *entry != "*")
            .map(|entry| (read(entry), found(&read(entry))))
            .collect();
        let listed = |(path, leads_to)| ListedUnixSocket { path, leads_to };
        let looked_at: Vec<_> = entries
            .iter()
            .map(|(path, file)| listed((path, file.as_ref())))
            .collect();
        let unseen: Vec<_> = entries
            .iter()
            .map(|(path, _)| listed((path, None)))
            .collect();
        let list = |entries| match self.list.as_slice() {
            [all] if all == "*" => UnixSocketList::All,
            _ => UnixSocketList::Only(entries),
        };
        let leads_to = path.as_ref().and_then(found);
        let request = UnixSocketRequest {
            support: if self.served {
                UnixSocketSupport::Served
            } else {
                UnixSocketSupport::Unsupported
            },
            method: Some(self.method.as_deref().unwrap_or("GET")),
            upgrade: self.upgrade.as_deref(),
            path: path.as_ref(),
            leads_to: leads_to.as_ref(),
        };
        let decision = policy.decide_unix_socket(&request, list(&looked_at));
        same("decision", told(&decision), self.says.clone())?;
        // Who has not looked yet hears the same, or that it is not allowed.
        let blind = UnixSocketRequest {
            leads_to: None,
            ..request
        };
        let before = told(&policy.decide_unix_socket(&blind, list(&unseen)));
        let harmless = before == self.says || before == "deny baseline_policy not_allowed";
        same(&format!("before a look: {before}"), harmless, true)
    }
}

impl Row for Asked {
    fn title(&self) -> (&str, &str) {
        (&self.name, &self.spec)
    }
}
