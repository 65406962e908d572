//! The host in a URL of a registry or repository. Its user, password, port and path are dropped.

use codex_network_policy::Host;

/// The host of a URL, or of git's short form `user@host:path`. `None` if it names no other machine, or
/// cannot be parsed.
pub(super) fn host(url: &str) -> Option<String> {
    let url = url.trim();
    let authority = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            // `sparse+https`, `git+ssh`
            let scheme = scheme.rsplit('+').next().unwrap_or(scheme);
            if matches!(scheme, "file" | "cdrom" | "copy") {
                return None;
            }
            rest.split(['/', '?', '#']).next()?
        }
        Some(_) => return None,
        None => short_form(url)?,
    };
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => host,
        None => authority,
    };
    let host = if host.starts_with('[') {
        host.split_inclusive(']').next()?
    } else {
        host.split(':').next()?
    };
    Host::parse(host).ok().map(|host| host.to_string())
}

/// The URL without user information, query and fragment. `None` unless it is one of HTTP.
pub(super) fn plain(url: &str) -> Option<String> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let scheme = scheme.rsplit('+').next().unwrap_or(scheme);
    let is_http = ["http", "https"]
        .iter()
        .any(|http| scheme.eq_ignore_ascii_case(http));
    let rest = rest.split(['?', '#']).next()?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => host,
        None => authority,
    };
    is_http.then(|| format!("{scheme}://{host}{path}"))
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// The part before the path in `user@host:path`. A slash before the colon makes it a path, as in git.
fn short_form(url: &str) -> Option<&str> {
    let (before, after) = url.split_once(':')?;
    // `transport::address`, and apt's `cdrom:[Name of the disc]/`.
    (!after.starts_with('[')
        && !before.contains('/')
        && !before.is_empty()
        && !after.starts_with(':'))
    .then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j16_the_host_of_a_url_stands_alone() {
        for (url, wanted) in [
            ("https://registry.example/", Some("registry.example")),
            (
                "https://me:secret@Registry.Example:8443/npm?x#y",
                Some("registry.example"),
            ),
            ("sparse+https://index.example/", Some("index.example")),
            ("ssh://git@host.example:22/a.git", Some("host.example")),
            ("git@host.example:group/a.git", Some("host.example")),
            ("https://[2001:db8::1]:443/", Some("2001:db8::1")),
            ("https://a@b@host.example/", Some("host.example")),
            (
                "https://host.example?next=https://other.example/",
                Some("host.example"),
            ),
            ("file:///srv/mirror", None),
            ("file://share.example/srv/mirror", None),
            ("cdrom:[Debian]/", None),
            ("../sibling.git", None),
            ("/srv/git/a.git", None),
            ("./a:b", None),
            ("ext::sh -c evil", None),
            ("https://", None),
            ("https://a b/", None),
            ("", None),
        ] {
            let host = host(url);
            let found = host.as_deref().map(|host| host.trim_matches(['[', ']']));
            assert_eq!(found, wanted, "{url}");
        }
    }

    #[test]
    fn b5_a_registry_is_named_without_user_query_and_fragment() {
        for (url, wanted) in [
            ("https://npm.test/", Some("https://npm.test/")),
            (
                "https://me:secret@npm.test:8443/a/b?c#d",
                Some("https://npm.test:8443/a/b"),
            ),
            (
                "sparse+https://cargo.test/index/",
                Some("https://cargo.test/index/"),
            ),
            ("https://a@b@npm.test", Some("https://npm.test")),
            ("git@github.com:a/b", None),
            ("file:///srv", None),
        ] {
            assert_eq!(plain(url).as_deref(), wanted, "{url}");
        }
    }
}
