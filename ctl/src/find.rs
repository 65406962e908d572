//! Finds the control socket (SPEC K2): from the flag, the variable, the user's directories, or the
//! system's path. Decides which listeners to trust: variables survive `su`, so unless the flag names
//! the socket, root trusts only root's proxy, and other users trust their own or root's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use codex_network_config::{shell_word, user_state_directory};
use codex_network_control::client::ConnectError;
use codex_network_control::{Client, TrustedListeners, socket_path};
use nix::unistd::Uid;

use crate::failure::Failure;
use crate::listener::{AnsweringProxy, user_or_uid};
use crate::private_instances;

/// The program's name in the proxy's log.
const PROGRAM: &str = concat!("proxyctl ", env!("CARGO_PKG_VERSION"));

/// Which users' proxies a command trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyTrust {
    /// If the flag names the socket, the proxy of any user; else root's and the caller's own.
    ByFlag,
    /// Only root's proxy, even if another is named: the proxy's answer decides how the command
    /// changes the system.
    RootOnly,
}

/// The sockets to try, in order. A named socket is the only one to try.
fn candidates(
    caller: Uid,
    flag: Option<PathBuf>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Vec<PathBuf> {
    if let Some(named) = named(flag, &environment) {
        return vec![named];
    }
    let runtime = socket_path::of_user(&environment);
    // Root's own proxy is the system's.
    let state = user_state_directory(environment).filter(|_| !caller.is_root());
    let state = state.map(|directory| socket_path::in_state(&directory));
    let system = socket_path::of_system().to_path_buf();
    runtime.into_iter().chain(state).chain([system]).collect()
}

/// The socket that the flag or the variable names.
fn named(flag: Option<PathBuf>, environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    flag.or_else(|| {
        environment(socket_path::VARIABLE)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    })
}

/// Which listeners a caller trusts at a path. A variable names a socket but proves nothing, and a program in a jail may
/// listen at the path of a private proxy.
fn trusted(caller: Uid, path: &Path, flag: Option<&Path>, wanted: ProxyTrust) -> TrustedListeners {
    let is_private = private_instances::is_socket(path);
    match (wanted, flag) {
        (ProxyTrust::RootOnly, _) => TrustedListeners::Root,
        (ProxyTrust::ByFlag, Some(_)) if is_private => {
            TrustedListeners::OutsideJails { user: None }
        }
        (ProxyTrust::ByFlag, None) if is_private => TrustedListeners::OutsideJails {
            user: Some(caller.as_raw()),
        },
        (ProxyTrust::ByFlag, Some(_)) => TrustedListeners::Any,
        (ProxyTrust::ByFlag, None) => TrustedListeners::RootAnd(caller.as_raw()),
    }
}

/// Connects to the first trusted proxy that answers.
pub(crate) async fn connect(flag: Option<PathBuf>, wanted: ProxyTrust) -> Result<Client, Failure> {
    let tried = first(flag, wanted).await;
    tried.map_err(|tried| failure(&tried, wanted))
}

/// The same, or if no proxy answers, connects to the private proxy of a running `run` of this user. Use it for commands
/// that look at a session or answer its questions.
pub(crate) async fn connect_or_private(flag: Option<PathBuf>) -> Result<Client, Failure> {
    let is_named = named(flag.clone(), |name| std::env::var_os(name)).is_some();
    let tried = match first(flag, ProxyTrust::ByFlag).await {
        Ok(client) => return Ok(client),
        Err(tried) => tried,
    };
    let mut private = Vec::new();
    if !is_named {
        for socket in private_instances::sockets() {
            private.extend(private_at(&socket).await);
        }
    }
    if private.len() > 1 {
        return Err(Failure::Unreachable(several(&private)));
    }
    private
        .pop()
        .ok_or_else(|| failure(&tried, ProxyTrust::ByFlag))
}

/// A private proxy of this user, which no program in a jail imitates.
async fn private_at(socket: &Path) -> Option<Client> {
    let trusted = trusted(Uid::effective(), socket, None, ProxyTrust::ByFlag);
    Client::connect(socket, trusted, PROGRAM).await.ok()
}

/// A command line of `proxyctl` for the proxy at this socket, as a shell takes it. It does not depend on the
/// environment: another terminal may have another one.
pub(crate) fn command_at(socket: &Path, words: &str) -> String {
    let socket = socket.display().to_string();
    format!("proxyctl --socket {} {words}", shell_word(&socket))
}

/// The words for several private proxies.
fn several(private: &[Client]) -> String {
    let mut message = String::from(
        "several programs of `proxyctl run` have private proxies; choose one with --socket:\n",
    );
    for client in private {
        message.push_str("  --socket ");
        message.push_str(&shell_word(&client.path().display().to_string()));
        message.push('\n');
    }
    message.pop();
    message
}

/// Connects to the first trusted proxy that answers. The error says why each socket failed.
pub(crate) async fn first(
    flag: Option<PathBuf>,
    wanted: ProxyTrust,
) -> Result<Client, Vec<ConnectError>> {
    let mut tried = Vec::new();
    let caller = Uid::effective();
    for path in candidates(caller, flag.clone(), |name| std::env::var_os(name)) {
        let trusted = trusted(caller, &path, flag.as_deref(), wanted);
        match Client::connect(&path, trusted, PROGRAM).await {
            Ok(client) => return Ok(client),
            Err(error) => tried.push(error),
        }
    }
    Err(tried)
}

/// Connects to the socket of a proxy that this process starts. Trusts only the two, since another user may be
/// able to put another socket at its path.
pub(crate) async fn started(path: &Path, proxy: u32) -> Result<Client, ConnectError> {
    let trusted = TrustedListeners::Processes {
        uid: Uid::effective().as_raw(),
        pids: [std::process::id(), proxy],
    };
    Client::connect(path, trusted, PROGRAM).await
}

/// Connects again to the same socket.
pub(crate) async fn reconnect(lost: &Client) -> Result<Client, ConnectError> {
    lost.reconnect(PROGRAM).await
}

/// Connects again after the proxy's worker has closed the connection: the next worker takes over
/// its socket.
pub(crate) async fn connect_again(lost: &Client) -> Result<Client, Failure> {
    let again = reconnect(lost).await;
    again.map_err(|error| {
        Failure::Unreachable(format!(
            "the proxy closed the connection, and connecting again failed: {error}"
        ))
    })
}

/// The error when no proxy answered: a refusal if there was one, else everything that was tried.
pub(crate) fn failure(tried: &[ConnectError], wanted: ProxyTrust) -> Failure {
    if let Some(refusal) = refusal(tried, wanted) {
        return Failure::NotPermitted(refusal);
    }
    match tried.iter().find(|error| is_refusal(error)) {
        // The proxy never refuses root (SPEC K3). The connection is also closed if the service
        // manager holds the socket and the proxy does not start.
        Some(ConnectError::Disconnected { path }) if Uid::effective().is_root() => {
            Failure::Unreachable(format!(
                "{}: a process holds this socket, but no proxy answers on it; `proxyctl doctor` says what is wrong",
                path.display()
            ))
        }
        Some(
            refused @ (ConnectError::PermissionDenied { .. } | ConnectError::Disconnected { .. }),
        ) => Failure::NotPermitted(format!("{refused}\n{}", how_to_be_admitted())),
        Some(other) => Failure::Failed(other.to_string()),
        None => {
            let mut message = String::from("no proxy answers. Tried:\n");
            for error in tried {
                message.push_str("  ");
                message.push_str(&described(error));
                message.push('\n');
            }
            message.push_str(how_to_start());
            Failure::Unreachable(message)
        }
    }
}

/// The error when a proxy answers that is not trusted: what was tried, and what to do.
fn refusal(tried: &[ConnectError], wanted: ProxyTrust) -> Option<String> {
    let untrusted = tried.iter().find_map(|error| match error {
        ConnectError::Untrusted { path, owner } => Some(AnsweringProxy::at(path, *owner)),
        _ => None,
    })?;
    // Another proxy that answers may have a problem of its own to report.
    let others = |error: &ConnectError| is_refusal(error);
    if tried.iter().any(others) {
        return None;
    }
    let mut message = String::from("no trusted proxy answers. Tried:\n");
    for error in tried {
        message.push_str("  ");
        message.push_str(&described(error));
        message.push('\n');
    }
    let advice = match wanted {
        ProxyTrust::RootOnly => "Nothing was sent. This command changes the system, so it trusts a proxy that root started and \
                          no other, even with --socket. `proxyctl ca show`, as the user of that proxy, \
                          says how to install its CA by hand."
            .to_owned(),
        ProxyTrust::ByFlag if private_instances::is_socket(untrusted.socket()) => {
            "Nothing was sent. A program in a jail can listen at the path of a private proxy and show false questions.".to_owned()
        }
        ProxyTrust::ByFlag => format!(
            "Nothing was sent. To use it anyway, name its socket: --socket {}",
            shell_word(&untrusted.socket().display().to_string())
        ),
    };
    message.push_str(&advice);
    Some(message)
}

/// The result of trying a socket, with the name of its listener's user.
pub(crate) fn described(error: &ConnectError) -> String {
    let ConnectError::Untrusted { path, owner } = error else {
        return error.to_string();
    };
    let owner = AnsweringProxy::at(path, *owner).owner();
    if private_instances::is_socket(path) {
        return format!(
            "{}: {owner} listens there, in a jail or for another user: this is not the private proxy of a running `proxyctl run`",
            path.display()
        );
    }
    let path = path.display();
    if Uid::effective().is_root() {
        format!("{path}: {owner} listens there; root talks only to a proxy of root")
    } else {
        format!(
            "{path}: {owner} listens there; this user talks only to a proxy of their own or of root"
        )
    }
}

/// Whether a proxy, or another program, answered and refused.
pub(crate) fn is_refusal(error: &ConnectError) -> bool {
    !matches!(
        error,
        ConnectError::Unreachable { .. } | ConnectError::Untrusted { .. }
    )
}

pub(crate) fn how_to_be_admitted() -> String {
    let user = Uid::effective();
    let name = user_or_uid(user.as_raw());
    format!(
        "Run proxyctl as root or as the user that the proxy runs as, or add {name:?} to \
         [daemon.control] users (for `proxyctl run`), observers or administrators and reload the proxy."
    )
}

fn how_to_start() -> &'static str {
    if cfg!(target_os = "macos") {
        "Start it with `codex-network-proxy`, or the service with \
         `sudo launchctl kickstart system/com.openai.codex-network-proxy`; or name its socket with --socket."
    } else {
        "Start it with `codex-network-proxy`, or the service with `systemctl start codex-network-proxy`; \
         or name its socket with --socket."
    }
}

#[cfg(test)]
mod tests {
    use codex_network_control::ListenerOwner;

    use super::*;

    fn with(flag: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        of(7, flag, variables)
    }

    fn of(user: u32, flag: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        let found = candidates(Uid::from_raw(user), flag.map(PathBuf::from), |name| {
            let variable = variables.iter().find(|(given, _)| *given == name)?;
            Some(variable.1.into())
        });
        let text = |path: PathBuf| path.display().to_string();
        found.into_iter().map(text).collect()
    }

    #[test]
    fn k2_only_the_flag_vouches_for_a_listener_of_another_user() {
        use ProxyTrust::{ByFlag, RootOnly};
        let flag = Some(Path::new("/flag"));
        let trusts = |user, flag, wanted| {
            let trusted = trusted(Uid::from_raw(user), Path::new("/flag"), flag, wanted);
            [0, 7, 8].map(|uid| trusted.include(ListenerOwner { uid, pid: None }))
        };
        assert_eq!(trusts(0, None, ByFlag), [true, false, false]);
        assert_eq!(trusts(7, None, ByFlag), [true, true, false]);
        for user in [0, 7] {
            assert_eq!(trusts(user, flag, ByFlag), [true, true, true]);
            // A command that changes the system trusts root only, for every caller and every named
            // socket.
            assert_eq!(trusts(user, flag, RootOnly), [true, false, false]);
            assert_eq!(trusts(user, None, RootOnly), [true, false, false]);
        }
    }

    #[test]
    fn q6_a_listener_at_the_path_of_a_private_proxy_must_be_outside_of_jails() {
        let path = Path::new("/run/user/7/codex-network-proxy-run-1-0/control.sock");
        let trusts = |flag| trusted(Uid::from_raw(7), path, flag, ProxyTrust::ByFlag);
        let outside = |user| TrustedListeners::OutsideJails { user };
        assert_eq!(trusts(Some(path)), outside(None));
        assert_eq!(trusts(None), outside(Some(7)));
    }

    #[test]
    fn k2_the_flag_then_the_variable_then_the_users_then_the_systems_socket() {
        let variables = [
            (socket_path::VARIABLE, "/variable"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
        ];
        assert_eq!(with(Some("/flag"), &variables), ["/flag"]);
        assert_eq!(with(None, &variables), ["/variable"]);
        assert_eq!(
            with(None, &[(socket_path::VARIABLE, ""), variables[1]]),
            [
                "/run/user/7/codex-network-proxy/control.sock",
                socket_path::SYSTEM
            ]
        );
        assert_eq!(with(None, &[]), [socket_path::SYSTEM]);
    }

    #[test]
    fn k2_the_state_directory_comes_after_the_runtime_directory() {
        let in_state = "/users/a/.local/state/codex-network-proxy/control.sock";
        let home = ("HOME", "/users/a");
        assert_eq!(with(None, &[home]), [in_state, socket_path::SYSTEM]);
        let runtime = ("XDG_RUNTIME_DIR", "/run/user/7");
        assert_eq!(
            with(None, &[home, runtime]),
            [
                "/run/user/7/codex-network-proxy/control.sock",
                in_state,
                socket_path::SYSTEM
            ]
        );
        assert_eq!(
            with(None, &[home, ("XDG_STATE_HOME", "/state")])[0],
            "/state/codex-network-proxy/control.sock"
        );
        assert_eq!(with(Some("/flag"), &[home]), ["/flag"]);
        assert_eq!(of(0, None, &[home]), [socket_path::SYSTEM]);
    }
}
