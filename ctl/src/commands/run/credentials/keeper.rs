//! The programs of this machine that have tokens of the user: `gh` and others, and the keyring (SPEC B14).
//!
//! They run with the user's own rights. The proxy never starts them.

use std::env;
use std::ffi::OsString;

use codex_network_config::CredentialVariable;
use codex_network_control::message::WantedCredential;

use crate::output::printable;
use crate::presets;

/// The name of the entries in the keyring.
const SERVICE: &str = "codex-network-proxy";
/// Stands for the server of a GitHub of one's own, which `GH_HOST` names.
const GH_HOST: &str = "GH_HOST";

/// A program that prints the token of a credential.
struct Keeper {
    /// The name of the credential.
    id: &'static str,
    program: &'static str,
    /// `GH_HOST` stands for the content of that variable.
    arguments: &'static [&'static str],
    /// The command that makes the program have a token.
    login: &'static str,
}

/// The programs, by the names of their credentials. The keyring has the others.
const KEEPERS: &[Keeper] = &[
    Keeper {
        id: "github",
        program: "gh",
        arguments: &["auth", "token", "--hostname", "github.com"],
        login: "gh auth login",
    },
    Keeper {
        id: "github-enterprise",
        program: "gh",
        arguments: &["auth", "token", "--hostname", GH_HOST],
        login: "gh auth login --hostname $GH_HOST",
    },
    Keeper {
        id: "gitlab",
        program: "glab",
        arguments: &["config", "get", "token", "--host", "gitlab.com"],
        login: "glab auth login",
    },
];

/// A credential of the session, and the variable that gets its token.
#[derive(Debug)]
pub(super) struct WantedToken<'w> {
    id: &'w str,
    variable: &'w str,
}

/// The credentials that the user named (`--credential`).
///
/// # Errors
///
/// A sentence about a name that the proxy does not know, or whose value is not the user's.
pub(super) fn of<'w>(
    names: &[String],
    credentials: &'w [WantedCredential],
) -> Result<Vec<WantedToken<'w>>, String> {
    let tokens = names.iter().map(|name| {
        let Some(known) = credentials.iter().find(|known| known.id == *name) else {
            return Err(unknown(name, credentials));
        };
        if known.is_read {
            return Err(format!(
                "the proxy reads the credential {name} itself; leave out `--credential {name}`"
            ));
        }
        let variable = known.env.first();
        let variable = variable.ok_or_else(|| format!("the credential {name} has no variable"))?;
        Ok(WantedToken {
            id: &known.id,
            variable,
        })
    });
    tokens.collect()
}

fn unknown(name: &str, credentials: &[WantedCredential]) -> String {
    let name = printable(name);
    if credentials.is_empty() {
        return format!(
            "the proxy has no credential {name}: its configuration does not have `credential_broker = true`"
        );
    }
    let known: Vec<String> = credentials.iter().map(|one| printable(&one.id)).collect();
    format!(
        "the proxy has no credential {name}; it has {}",
        known.join(", ")
    )
}

/// Takes each token where this machine has it. This process must already be safe from others that would read
/// its memory.
///
/// # Errors
///
/// A sentence about the first token that is not there, with the remedy.
pub(super) fn tokens(wanted: Vec<WantedToken<'_>>) -> Result<Vec<CredentialVariable>, String> {
    let tokens = wanted.into_iter().map(|wanted| {
        let token = token(wanted.id)?;
        CredentialVariable::new(wanted.variable.to_owned(), &OsString::from(token))
            .ok_or_else(|| format!("the token of the credential {} is empty", wanted.id))
    });
    tokens.collect()
}

fn token(id: &str) -> Result<String, String> {
    let keeper = KEEPERS.iter().find(|keeper| keeper.id == id);
    let of_program = keeper.map(|keeper| (keeper.token(), keeper));
    let why = match of_program {
        Some((Ok(token), _)) => return Ok(token),
        Some((Err(why), keeper)) => Some((why, keeper)),
        None => None,
    };
    let (program, arguments) = of_keyring(id);
    let in_keyring = presets::output_of(program, &arguments);
    let found = in_keyring.and_then(|token| some(token, program));
    found.map_err(|not_found| match why {
        Some((why, keeper)) => format!(
            "there is no token of the credential {id}: {why}; run `{}`, or {}",
            keeper.login,
            remedy(id)
        ),
        None => format!(
            "there is no token of the credential {id}: {not_found}; {}",
            remedy(id)
        ),
    })
}

impl Keeper {
    fn token(&self) -> Result<String, String> {
        let host = env::var(GH_HOST).unwrap_or_default();
        let mut arguments = Vec::new();
        for argument in self.arguments {
            if *argument == GH_HOST && host.trim().is_empty() {
                return Err("GH_HOST is not set".to_owned());
            }
            arguments.push(if *argument == GH_HOST {
                host.trim()
            } else {
                argument
            });
        }
        some(presets::output_of(self.program, &arguments)?, self.program)
    }
}

/// A token that is not empty.
fn some(token: String, program: &str) -> Result<String, String> {
    if token.trim().is_empty() {
        return Err(format!("{program} has none"));
    }
    Ok(token)
}

/// The command that prints an entry of the keyring.
#[cfg(not(target_os = "macos"))]
fn of_keyring(id: &str) -> (&'static str, Vec<&str>) {
    (
        "secret-tool",
        vec!["lookup", "service", SERVICE, "credential", id],
    )
}

/// The command that prints an entry of the keychain.
#[cfg(target_os = "macos")]
fn of_keyring(id: &str) -> (&'static str, Vec<&str>) {
    (
        "security",
        vec!["find-generic-password", "-s", SERVICE, "-a", id, "-w"],
    )
}

/// How to put a token into the keyring.
#[cfg(not(target_os = "macos"))]
fn remedy(id: &str) -> String {
    format!("store it: secret-tool store --label={id} service {SERVICE} credential {id}")
}

/// How to put a token into the keychain.
#[cfg(target_os = "macos")]
fn remedy(id: &str) -> String {
    format!("store it: security add-generic-password -s {SERVICE} -a {id} -w")
}

#[cfg(test)]
mod tests {
    use codex_network_config::CredentialProfile;

    use super::*;

    #[test]
    fn b14_each_program_belongs_to_a_known_credential() {
        for keeper in KEEPERS {
            assert!(
                CredentialProfile::find(keeper.id).is_some(),
                "{}",
                keeper.id
            );
            assert!(keeper.login.starts_with(keeper.program));
        }
    }

    #[test]
    fn b14_only_a_credential_that_the_launcher_gives_can_be_named() {
        let credential = |id: &str, is_read| WantedCredential {
            id: id.to_owned(),
            env: vec!["FIRST".to_owned(), "SECOND".to_owned()],
            is_read,
        };
        let known = [credential("github", false), credential("team", true)];
        let names = |name: &str| [name.to_owned()];
        let found = of(&names("github"), &known).expect("it is known");
        assert_eq!((found[0].id, found[0].variable), ("github", "FIRST"));
        let why = of(&names("team"), &known).expect_err("the proxy reads it");
        assert!(why.contains("leave out"), "{why}");
        let why = of(&names("gitlab"), &known).expect_err("it is unknown");
        assert!(why.ends_with("it has github, team"), "{why}");
        let why = of(&names("github"), &[]).expect_err("there is no broker");
        assert!(why.contains("credential_broker = true"), "{why}");
    }
}
