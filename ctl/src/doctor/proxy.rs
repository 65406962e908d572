//! The running proxy, asked once for all checks.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use codex_network_control::Client;
use codex_network_control::client::{CallError, ConnectError};
use codex_network_control::message::{Ca, CaQuery, Config, Role, Status};
use nix::unistd::Uid;
use serde_json::Value;

use crate::failure::Failure;
use crate::find;
use crate::find::ProxyTrust;
use crate::listener::AnsweringProxy;

/// Time limit for all answers of the proxy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The doors, and the settings that say where each is.
const DOORS: [(&str, &str); 3] = [
    ("http", "proxy_url"),
    ("socks5", "socks_url"),
    ("admin", "admin_url"),
];

/// The result of asking the proxy.
#[derive(Debug)]
pub(super) enum Proxy {
    /// No check needs it.
    NotAsked,
    Answers(Box<Answers>),
    /// It exists, and refuses this user.
    TurnsAway(String),
    /// Something is there that gives no valid answer.
    Strange(String),
    /// There is no trusted proxy. The sockets that were tried.
    Silent(Vec<String>),
}

/// The proxy's answers.
#[derive(Debug)]
pub(super) struct Answers {
    /// The control socket.
    pub(super) socket: PathBuf,
    /// Whether it is a proxy of root.
    pub(super) is_of_root: bool,
    pub(super) status: Status,
    /// The settings in force; `None` if the proxy did not return them.
    pub(super) config: Option<Config>,
    /// The CA, if there is one and the proxy returned it.
    pub(super) ca: Option<Ca>,
}

impl Proxy {
    pub(super) fn answers(&self) -> Option<&Answers> {
        match self {
            Self::Answers(answers) => Some(answers),
            _ => None,
        }
    }
}

impl Answers {
    /// The process that keeps the sockets.
    pub(super) fn monitor(&self) -> Option<&Role> {
        self.role("monitor")
    }

    pub(super) fn role(&self, name: &str) -> Option<&Role> {
        self.status.roles.iter().find(|role| role.name == name)
    }

    /// A setting in force, by its path.
    pub(super) fn setting(&self, path: &[&str]) -> Option<&Value> {
        let settings = &self.config.as_ref()?.settings;
        path.iter().try_fold(settings, |value, key| value.get(key))
    }

    /// The addresses of the listeners, by the name of the door.
    pub(super) fn doors(&self) -> Vec<(&'static str, SocketAddr)> {
        DOORS
            .iter()
            .filter_map(|(name, _)| {
                let mut listeners = self.status.listeners.iter();
                let listener = listeners.find(|listener| listener.name == *name)?;
                Some((*name, listener.address.parse().ok()?))
            })
            .collect()
    }

    /// The doors that are on but have no listener: the proxy runs without a door whose address
    /// another program has.
    pub(super) fn missing_doors(&self) -> Vec<(&'static str, SocketAddr)> {
        let open = self.doors();
        DOORS
            .iter()
            .filter(|_| self.status.enabled)
            .filter(|(name, _)| open.iter().all(|(open, _)| open != name))
            .filter_map(|(name, key)| {
                let url = self.setting(&[key])?.as_str()?;
                let (_, address) = url.split_once("://")?;
                Some((*name, address.parse().ok()?))
            })
            .collect()
    }

    /// Whether any connection is decrypted (SPEC M1).
    pub(super) fn intercepts(&self) -> bool {
        let is_set = |path: &[&str]| self.setting(path).and_then(Value::as_bool) == Some(true);
        let hooks = self.setting(&["mitm", "hooks"]).and_then(Value::as_object);
        let reason = self.status.mode == "limited"
            || hooks.is_some_and(|hooks| !hooks.is_empty())
            || is_set(&["credential_broker"]);
        is_set(&["mitm", "allowed"]) && reason
    }
}

/// Asks the proxy that the other commands would ask.
pub(super) fn ask(socket: Option<PathBuf>) -> Result<Proxy, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(async {
        match tokio::time::timeout(ANSWER_TIMEOUT, find::first(socket, ProxyTrust::ByFlag)).await {
            Ok(Ok(client)) => question(&client).await,
            Ok(Err(tried)) => nobody(&tried),
            Err(_) => Proxy::Strange("the proxy does not answer in time".to_owned()),
        }
    }))
}

async fn question(client: &Client) -> Proxy {
    let status = match in_time(client.status()).await {
        Ok(status) => status,
        Err(error) => return Proxy::Strange(error.to_string()),
    };
    // An older proxy does not know every call.
    let config = in_time(client.config()).await.ok();
    let ca = in_time(client.ca(CaQuery::default())).await.ok();
    Proxy::Answers(Box::new(Answers {
        socket: client.path().to_owned(),
        is_of_root: AnsweringProxy::of(client).is_of_root(),
        status,
        config,
        ca: ca.filter(|ca| !ca.subject.is_empty()),
    }))
}

async fn in_time<T>(call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, call).await;
    answer.unwrap_or(Err(CallError::TimedOut))
}

fn nobody(tried: &[ConnectError]) -> Proxy {
    match tried.iter().find(|error| find::is_refusal(error)) {
        // Root is never refused, but systemd closes the connection when the service behind its
        // socket fails.
        Some(ConnectError::Disconnected { path }) if Uid::effective().is_root() => Proxy::Strange(
            format!("{}: the proxy hung up before it answered", path.display()),
        ),
        Some(
            turned @ (ConnectError::PermissionDenied { .. } | ConnectError::Disconnected { .. }),
        ) => Proxy::TurnsAway(turned.to_string()),
        Some(strange) => Proxy::Strange(strange.to_string()),
        None => Proxy::Silent(tried.iter().map(find::described).collect()),
    }
}

#[cfg(test)]
mod tests {
    use codex_network_control::message::Listener;
    use serde_json::json;

    use super::*;

    #[test]
    fn l9_a_door_that_is_on_and_not_open_is_missed() {
        let mut answers = Answers {
            socket: PathBuf::new(),
            is_of_root: true,
            status: Status {
                enabled: true,
                listeners: vec![Listener {
                    name: "http".to_owned(),
                    address: "127.0.0.1:3128".to_owned(),
                    origin: "bound".to_owned(),
                }],
                ..Status::default()
            },
            config: Some(Config {
                settings: json!({
                    "proxy_url": "http://127.0.0.1:3128",
                    "socks_url": "socks5h://127.0.0.1:8081",
                    "admin_url": null,
                }),
                ..Config::default()
            }),
            ca: None,
        };
        let address = |text: &str| text.parse().expect("an address");
        assert_eq!(answers.doors(), [("http", address("127.0.0.1:3128"))]);
        assert_eq!(
            answers.missing_doors(),
            [("socks5", address("127.0.0.1:8081"))]
        );
        answers.status.enabled = false;
        assert!(answers.missing_doors().is_empty());
    }
}
