//! The running proxy: which files it reads, and whether it takes a change.

use std::path::{Path, PathBuf};

use codex_network_control::client::{CallError, ConnectError};
use codex_network_control::message::{ExpectedChange, Reloaded, Role};
use codex_network_control::{Client, ControlError};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, Uid, access};

use crate::edit::{ListChange, ReadByProxy, Verb};
use crate::failure::Failure;
use crate::find::{self, ProxyTrust};

/// A proxy that answers.
pub(super) struct RunningProxy {
    client: Client,
    /// Its files; an error if their paths are relative to an unknown directory.
    read: Result<ReadByProxy, String>,
}

/// Why a change is not in force.
pub(super) enum NotInForce {
    /// The proxy does not take it, so the old configuration should come back.
    Refused(String),
    /// The reload would have had other changes too, so nothing is in force.
    OtherChanges(String),
    /// It is unknown whether it is in force.
    Unknown(Failure),
}

impl RunningProxy {
    /// Finds the proxy. Without any there is nothing to reload, unless the command line names one.
    pub(super) async fn find(socket: Option<PathBuf>) -> Result<Option<Self>, Failure> {
        let is_named = socket.is_some();
        let client = match find::first(socket, ProxyTrust::ByFlag).await {
            Ok(client) => client,
            Err(tried) => {
                let is_gone =
                    |error: &ConnectError| matches!(error, ConnectError::Unreachable { .. });
                if !is_named && tried.iter().all(is_gone) {
                    return Ok(None);
                }
                return Err(find::failure(&tried, ProxyTrust::ByFlag));
            }
        };
        let owner = client.listener_owner().uid;
        if Uid::effective().is_root() && owner != 0 {
            // Its answer would choose the file that root changes.
            return Err(Failure::NotPermitted(format!(
                "this is a proxy of user {owner}, whose files root does not change: run the command as that user"
            )));
        }
        let read = match client.status().await {
            Ok(status) => read(&status.files, &status.roles),
            // The caller may still see which change an administrator could make.
            Err(CallError::Refused(ControlError::NotPermitted { .. })) => {
                let owner = client.listener_owner();
                let listener = Role {
                    name: "proxy".to_owned(),
                    uid: owner.uid,
                    pid: owner
                        .pid
                        .and_then(|pid| u32::try_from(pid).ok())
                        .unwrap_or_default(),
                    ..Role::default()
                };
                read(&client.welcome().files, &[listener])
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Self { client, read }))
    }

    /// Its files.
    pub(super) fn read(&self) -> Result<&ReadByProxy, Failure> {
        let read = self.read.as_ref();
        read.map_err(|why| Failure::Failed(format!("{why}; name the file with --config")))
    }

    /// Refuses a change of a file that the caller may not read.
    pub(super) fn check_readable(&self, change: &ListChange) -> Result<(), Failure> {
        let is_closed =
            |file: &&PathBuf| access(file.as_path(), AccessFlags::R_OK) == Err(Errno::EACCES);
        match self.read()?.files.iter().find(is_closed) {
            Some(file) => Err(Failure::NotPermitted(format!(
                "{} is not yours to read; its owner can make the change: `proxyctl {} '{}'`",
                file.display(),
                change.verb.as_str(),
                change.pattern
            ))),
            None => Ok(()),
        }
    }

    /// Whether it has read a file.
    pub(super) fn has_read(&self, file: &Path) -> bool {
        let Ok(read) = &self.read else {
            return false;
        };
        file.canonicalize().is_ok_and(|wanted| {
            let mut files = read.files.iter();
            files.any(|file| file.canonicalize().is_ok_and(|file| file == wanted))
        })
    }

    /// Reloads it, if the configuration has no other change that is not in force, and checks that this one is.
    pub(super) async fn put_in_force(&self, change: &ListChange) -> Result<Reloaded, NotInForce> {
        let pattern = change.pattern.to_string();
        let expected = match change.verb {
            Verb::Allow => ExpectedChange::Allow { pattern },
            Verb::Deny => ExpectedChange::Deny { pattern },
            Verb::Unset => ExpectedChange::Unset { pattern },
        };
        let reloaded = match self.client.reload_only(expected).await {
            Ok(reloaded) => reloaded,
            Err(CallError::Refused(error @ ControlError::OtherChanges { .. })) => {
                return Err(NotInForce::OtherChanges(format!(
                    "{error}. Look at them: `proxyctl reload` puts them in force, and then this command works"
                )));
            }
            Err(CallError::Refused(ControlError::ReloadFailed { problems })) => {
                let mut why = String::from("the proxy refused the new configuration:\n");
                for problem in problems {
                    why.push_str(problem.text.trim_end());
                    why.push('\n');
                }
                return Err(NotInForce::Refused(why.trim_end().to_owned()));
            }
            Err(error @ (CallError::Refused(_) | CallError::TooOld { .. })) => {
                return Err(NotInForce::Refused(format!(
                    "the proxy was not reloaded: {error}"
                )));
            }
            Err(error) => return Err(NotInForce::Unknown(error.into())),
        };
        let patterns = match self.client.patterns().await {
            Ok(patterns) => patterns,
            Err(error) => return Err(NotInForce::Unknown(error.into())),
        };
        let text = change.pattern.to_string();
        let is_allowed = patterns.allowed.iter().any(|rule| rule.pattern == text);
        let is_denied = patterns.denied.iter().any(|rule| rule.pattern == text);
        let is_in_force = match change.verb {
            Verb::Allow => is_allowed,
            Verb::Deny => is_denied,
            Verb::Unset => !is_allowed && !is_denied,
        };
        if is_in_force {
            Ok(reloaded)
        } else {
            Err(NotInForce::Refused(
                "the proxy was reloaded, but the change is not in force: other files, or `-c`, set its lists"
                    .to_owned(),
            ))
        }
    }

    /// Reloads it after the old content came back. The settings in force are the old ones in any case.
    pub(super) async fn reload_again(&self) {
        let _ = self.client.reload_only(ExpectedChange::Nothing).await;
    }
}

fn read(files: &[String], roles: &[Role]) -> Result<ReadByProxy, String> {
    let monitor = roles
        .iter()
        .find(|role| matches!(role.name.as_str(), "monitor" | "proxy"));
    let directory = || {
        let pid = monitor?.pid;
        std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
    };
    let files = files.iter().map(|file| {
        let path = PathBuf::from(file);
        if path.is_absolute() {
            return Ok(path);
        }
        let directory = directory().ok_or_else(|| {
            format!(
                "{file} is relative to the proxy's working directory, which this user may not see"
            )
        })?;
        Ok(directory.join(path))
    });
    Ok(ReadByProxy {
        uid: monitor.map_or_else(|| Uid::effective().as_raw(), |role| role.uid),
        files: files.collect::<Result<_, String>>()?,
    })
}
