//! Finding the proxy (SPEC K2): the flag, the variable, the user's socket, the system's.

use std::ffi::OsString;
use std::path::PathBuf;

use codex_network_control::client::ConnectError;
use codex_network_control::{Client, place};

use crate::Failure;

/// What we call ourselves, for the proxy's log.
const PROGRAM: &str = concat!("proxyctl ", env!("CARGO_PKG_VERSION"));

/// The sockets to try, in order. What is named is tried alone: whoever names a socket means it.
fn candidates(
    flag: Option<PathBuf>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Vec<PathBuf> {
    let named = flag.or_else(|| {
        environment(place::VARIABLE)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    });
    if let Some(named) = named {
        return vec![named];
    }
    let user = place::of_user(environment);
    user.into_iter()
        .chain([place::of_system().to_path_buf()])
        .collect()
}

/// Connects to the first proxy that answers.
pub(crate) async fn connect(flag: Option<PathBuf>) -> Result<Client, Failure> {
    first(flag).await.map_err(|tried| failure(&tried))
}

/// The first proxy that answers, or why none of those that were tried does.
pub(crate) async fn first(flag: Option<PathBuf>) -> Result<Client, Vec<ConnectError>> {
    let mut tried = Vec::new();
    for path in candidates(flag, |name| std::env::var_os(name)) {
        match Client::connect(&path, PROGRAM).await {
            Ok(client) => return Ok(client),
            Err(error) => tried.push(error),
        }
    }
    Err(tried)
}

/// Connects once more to the proxy whose worker has hung up: the next one takes over its socket.
pub(crate) async fn connect_again(lost: &Client) -> Result<Client, Failure> {
    let again = Client::connect(lost.path(), PROGRAM).await;
    again.map_err(|error| {
        Failure::Unreachable(format!("the proxy hung up and does not come back: {error}"))
    })
}

/// What to tell when nobody answered: the refusal if there was one, else everything that was tried.
fn failure(tried: &[ConnectError]) -> Failure {
    match tried.iter().find(|error| is_refusal(error)) {
        // Root is never turned away (SPEC K3), but whoever holds the socket for a proxy that does not
        // start hangs up as well.
        Some(ConnectError::HungUp { path }) if nix::unistd::Uid::effective().is_root() => {
            Failure::Unreachable(format!(
                "{}: somebody holds this socket, and no proxy answers there; `proxyctl doctor` says what is wrong",
                path.display()
            ))
        }
        Some(refused @ (ConnectError::Barred { .. } | ConnectError::HungUp { .. })) => {
            Failure::NotPermitted(format!("{refused}\n{}", how_to_be_admitted()))
        }
        Some(other) => Failure::Failed(other.to_string()),
        None => {
            let mut message = String::from("no proxy answers. Tried:\n");
            for error in tried {
                message.push_str("  ");
                message.push_str(&error.to_string());
                message.push('\n');
            }
            message.push_str(how_to_start());
            Failure::Unreachable(message)
        }
    }
}

/// Whether somebody was there.
pub(crate) fn is_refusal(error: &ConnectError) -> bool {
    !matches!(error, ConnectError::Unreachable { .. })
}

pub(crate) fn how_to_be_admitted() -> String {
    let user = nix::unistd::Uid::effective();
    let name = nix::unistd::User::from_uid(user)
        .ok()
        .flatten()
        .map_or_else(|| format!("uid {user}"), |user| user.name);
    // What its unit says, no configuration changes.
    let group = if cfg!(target_os = "macos") {
        String::new()
    } else {
        format!(
            " systemd's socket lets only its group connect: sudo usermod -aG codex-network-proxy {name} \
             too, and log in again."
        )
    };
    format!(
        "Run proxyctl as root or as the user that the proxy runs as, or add {name:?} to \
         [daemon.control] administrators or observers and reload the proxy.{group}"
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
    use super::*;

    fn with(flag: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        let found = candidates(flag.map(PathBuf::from), |name| {
            let variable = variables.iter().find(|(given, _)| *given == name)?;
            Some(variable.1.into())
        });
        let text = |path: PathBuf| path.display().to_string();
        found.into_iter().map(text).collect()
    }

    #[test]
    fn k2_the_flag_then_the_variable_then_the_users_then_the_systems_socket() {
        let variables = [
            (place::VARIABLE, "/variable"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
        ];
        assert_eq!(with(Some("/flag"), &variables), ["/flag"]);
        assert_eq!(with(None, &variables), ["/variable"]);
        assert_eq!(
            with(None, &[(place::VARIABLE, ""), variables[1]]),
            [
                "/run/user/7/codex-network-proxy/control.sock",
                place::SYSTEM
            ]
        );
        assert_eq!(with(None, &[]), [place::SYSTEM]);
    }
}
