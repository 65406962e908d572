//! The command that adds a host to the allow list, as refusals and lists advise it (SPEC W3).

/// `proxyctl allow HOST`, as a shell takes it. A host has no character that a shell interprets.
///
/// A host that begins with a hyphen stands behind `--`. One that looks like the id of a question ends in a dot, which
/// `proxyctl` asks for.
pub fn allow_command(host: &str) -> String {
    let mark = if host.starts_with('-') { "-- " } else { "" };
    let is_like_an_id = host.len() == 8 && host.bytes().all(|byte| byte.is_ascii_hexdigit());
    let dot = if is_like_an_id { "." } else { "" };
    format!("proxyctl allow {mark}{host}{dot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_the_advised_command_takes_every_host() {
        for (host, command) in [
            ("a.test", "proxyctl allow a.test"),
            ("-x.test", "proxyctl allow -- -x.test"),
            ("--help", "proxyctl allow -- --help"),
            ("0a1b2c3d", "proxyctl allow 0a1b2c3d."),
            ("::1", "proxyctl allow ::1"),
        ] {
            assert_eq!(allow_command(host), command);
        }
    }
}
