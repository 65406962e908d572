//! Rows about unix sockets.

use std::collections::HashMap;

use codex_network_policy::{
    HttpHead, ListedUnixSocket, Mode, Policy, PolicySpec, UnixSocketList, UnixSocketListener,
    UnixSocketLists, UnixSocketPath, UnixSocketRequest, UnixSocketSupport,
};
use serde::Deserialize;

use super::{Row, Session, content, same, told, yes};

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
    /// Whether the request has content.
    #[serde(default)]
    content: bool,
    path: String,
    /// The allow list; `["*"]` for all.
    list: Vec<String>,
    /// The deny list.
    #[serde(default)]
    denied: Vec<String>,
    /// The files: paths, and where they lead.
    #[serde(default)]
    files: HashMap<String, String>,
    /// The process that listens on the file: `proxy`, or another if absent.
    listener: Option<String>,
    /// The rules of the client's session.
    #[serde(default)]
    session: Session,
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
        let policy = self.session.narrow(&policy);
        let path = UnixSocketPath::parse(self.path.as_bytes()).ok();
        let read = |path: &str| UnixSocketPath::parse(path.as_bytes()).expect("an absolute path");
        let found = |path: &UnixSocketPath| {
            let mut files = self.files.iter();
            files.find_map(|(at, file)| (read(at) == *path).then(|| read(file)))
        };
        let entries = |list: &[String]| -> Vec<_> {
            let entries = list.iter().filter(|entry| *entry != "*");
            entries
                .map(|entry| (read(entry), found(&read(entry))))
                .collect()
        };
        let (allowed, denied) = (entries(&self.list), entries(&self.denied));
        let judge = |request: &UnixSocketRequest<'_>, looked: bool| {
            let [allowed, denied] = [&allowed, &denied].map(|entries| {
                let listed = |(path, file)| ListedUnixSocket {
                    path,
                    leads_to: Option::as_ref(file).filter(|_| looked),
                };
                let entries = entries.iter().map(|(path, file)| (path, file));
                entries.map(listed).collect::<Vec<_>>()
            });
            let lists = UnixSocketLists {
                allowed: match self.list.as_slice() {
                    [all] if all == "*" => UnixSocketList::All,
                    _ => UnixSocketList::Only(&allowed),
                },
                denied: &denied,
            };
            told(&policy.decide_unix_socket(request, lists))
        };
        let leads_to = path.as_ref().and_then(found);
        let request = UnixSocketRequest {
            support: if self.served {
                UnixSocketSupport::Served
            } else {
                UnixSocketSupport::Unsupported
            },
            head: &HttpHead {
                method: self.method.as_deref().unwrap_or("GET").into(),
                upgrade: self.upgrade.as_deref().map(Into::into),
                content: content(self.content),
            },
            path: path.as_ref(),
            leads_to: leads_to.as_ref(),
            listener: match self.listener.as_deref() {
                None => UnixSocketListener::Other,
                Some("proxy") => UnixSocketListener::ThisProxy,
                Some(other) => return Err(format!("listener = {other:?}")),
            },
        };
        same("decision", judge(&request, true), self.says.clone())?;
        // Before the file is inspected, the decision is the same or "not allowed". It may also
        // permit a file that is refused later: one on the deny list, or the proxy's own socket.
        let blind = UnixSocketRequest {
            leads_to: None,
            listener: UnixSocketListener::Other,
            ..request
        };
        let before = judge(&blind, false);
        let harmless = before == self.says
            || before == "deny baseline_policy not_allowed"
            || self.says == "deny baseline_policy denied"
            || self.says == "deny proxy_state loop_detected";
        same(&format!("before a look: {before}"), harmless, true)
    }
}

impl Row for Asked {
    fn title(&self) -> (&str, &str) {
        (&self.name, &self.spec)
    }
}
