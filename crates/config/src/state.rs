//! The state directory of a user's own proxy. The proxy and `proxyctl` derive it without a
//! configuration.

use std::ffi::OsString;
use std::path::PathBuf;

/// The directory's name in a parent for state.
const NAME: &str = "codex-network-proxy";

/// The state directory of a user who is not root (XDG Base Directory Specification). `environment` looks
/// a variable up. `None` if neither `XDG_STATE_HOME` nor `HOME` is set.
pub fn user_state_directory(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The specification requires relative paths to be ignored.
    let absolute = |name: &str| {
        environment(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|parent| parent.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_state_is_below_the_home_of_the_user() {
        let with = |given: &[(&str, &str)]| {
            user_state_directory(|name| {
                let found = given.iter().find(|(given, _)| *given == name);
                found.map(|(_, value)| value.into())
            })
        };
        let home = ("HOME", "/users/a");
        assert_eq!(
            with(&[home]),
            Some("/users/a/.local/state/codex-network-proxy".into())
        );
        assert_eq!(
            with(&[("XDG_STATE_HOME", "/state"), ("HOME", "/users/a")]),
            Some("/state/codex-network-proxy".into())
        );
        assert_eq!(
            with(&[("XDG_STATE_HOME", "relative"), ("HOME", "/users/a")]),
            Some("/users/a/.local/state/codex-network-proxy".into())
        );
        assert_eq!(with(&[]), None);
    }
}
