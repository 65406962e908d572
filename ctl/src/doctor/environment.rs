//! The environment of the calling shell: whether programs started from it use the proxy and trust its
//! CA.

mod address;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use address::{ProxyTarget, target};
use codex_network_config::CERTIFICATE_VARIABLES;
use codex_network_files::Reading;
use nix::unistd::Uid;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use super::facts::Facts;
use super::finding::Finding;
use super::proxy::RunningProxy;

/// The variables that most programs read, in upper case; each exists in lower case too.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
/// The variable with the hosts that bypass the proxy.
const NO_PROXY: &str = "NO_PROXY";
/// The longest list of certificates that is read.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// Names and values; an empty value counts as unset, as in most programs.
type Variables = BTreeMap<String, String>;

/// The addresses of the proxy, which the variables should name.
#[derive(Clone, Copy, Debug)]
struct ProxyAddresses {
    http: SocketAddr,
    socks5: Option<SocketAddr>,
}

/// Whether local addresses may bypass the proxy (SPEC B1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LocalAddresses {
    MayBypass,
    Judged,
}

/// A file of certificates that a variable names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CertificateFile {
    HasCa,
    LacksCa,
    Unreadable(String),
}

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if Uid::effective().is_root() && std::env::var_os("SUDO_UID").is_some() {
        return vec![
            Finding::note("skipped: sudo removes the shell's variables")
                .advise("proxyctl doctor environment, without sudo"),
        ];
    }
    let variables: Variables = std::env::vars_os()
        .filter_map(|(name, value)| {
            let value = value.to_string_lossy().trim().to_owned();
            Some((name.into_string().ok()?, value)).filter(|(_, value)| !value.is_empty())
        })
        .collect();
    let answers = facts.proxy.running();
    let proxy = addresses(facts);
    let local = match answers.and_then(|answers| answers.setting(&["allow_local_binding"])) {
        Some(Value::Bool(true)) => LocalAddresses::MayBypass,
        _ => LocalAddresses::Judged,
    };
    let mut found = proxies(&variables, proxy);
    found.extend(case_conflicts(&variables));
    found.extend(bypassing(&variables, local));
    found.extend(certificates(&variables, answers));
    found
}

/// The addresses of the proxy, or those that it will have.
fn addresses(facts: &Facts) -> ProxyAddresses {
    let listen = facts.configured().listen();
    let configured = ProxyAddresses {
        http: listen.http,
        socks5: listen.socks5,
    };
    facts.proxy.running().map_or(configured, |answers| {
        let open = answers.listener_addresses();
        let address = |wanted: &str| {
            let mut open = open.iter();
            open.find_map(|(name, address)| (*name == wanted).then_some(*address))
        };
        ProxyAddresses {
            http: address("http").unwrap_or(configured.http),
            socks5: address("socks5"),
        }
    })
}

/// The value of a variable in either case; lower case wins, as in most programs.
fn either<'v>(variables: &'v Variables, upper: &str) -> Option<&'v String> {
    variables
        .get(&upper.to_lowercase())
        .or_else(|| variables.get(upper))
}

fn proxies(variables: &Variables, proxy: ProxyAddresses) -> Vec<Finding> {
    let http = format!("http://{}", proxy.http);
    let set = |names: &[&str]| {
        let each: Vec<String> = names.iter().map(|name| format!("{name}={http}")).collect();
        format!("export {}", each.join(" "))
    };
    let lower = PROXIES.map(str::to_lowercase);
    let names = PROXIES.into_iter().chain(lower.iter().map(String::as_str));
    let mut right = Vec::new();
    let mut found = Vec::new();
    for name in names {
        let Some(value) = variables.get(name) else {
            continue;
        };
        let shown = address::shown(value);
        match target(value, proxy.http, proxy.socks5) {
            ProxyTarget::ThisProxy => right.push(name),
            ProxyTarget::ThisProxyByAddress => found.push(
                Finding::note(format!(
                    "{name}={shown} makes some programs resolve names themselves"
                ))
                // The shell inserts the rest, which may hold a password.
                .advise(format!("export {name}=\"socks5h://${{{name}#*://}}\"")),
            ),
            ProxyTarget::Elsewhere => found.push(Finding::problem(
                format!("{name}={shown} does not name this proxy"),
                set(&[name]),
            )),
            ProxyTarget::WrongProtocol(why) => found.push(Finding::problem(
                format!("{name}={shown} {why}"),
                set(&[name]),
            )),
        }
    }
    if !right.is_empty() {
        found.insert(
            0,
            Finding::ok(format!("set to this proxy: {}", right.join(", "))),
        );
    }
    let is_covered = |upper: &str| {
        either(variables, upper)
            .or_else(|| either(variables, "ALL_PROXY"))
            .is_some()
    };
    match (is_covered("HTTP_PROXY"), is_covered("HTTPS_PROXY")) {
        (true, true) => {}
        (false, false) => found.push(
            Finding::note(
                "no proxy variable is set: programs started from here do not use the proxy",
            )
            .advise(set(&[
                "HTTP_PROXY",
                "HTTPS_PROXY",
                "http_proxy",
                "https_proxy",
            ])),
        ),
        (true, false) => found.push(
            Finding::note("HTTPS_PROXY is not set: https:// requests bypass the proxy")
                .advise(set(&["HTTPS_PROXY", "https_proxy"])),
        ),
        (false, true) => found.push(
            Finding::note("HTTP_PROXY is not set: http:// requests bypass the proxy")
                .advise(set(&["HTTP_PROXY", "http_proxy"])),
        ),
    }
    // A web server passes a client's `Proxy` field to CGI programs as HTTP_PROXY.
    let is_set = |name: &str| variables.contains_key(name);
    if is_set("HTTP_PROXY") && !is_set("http_proxy") && either(variables, "ALL_PROXY").is_none() {
        found.push(
            Finding::note(
                "http_proxy is not set; for http:// URLs curl reads only the name in lower case",
            )
            .advise(set(&["http_proxy"])),
        );
    }
    found
}

/// Variables that differ between upper and lower case. Programs differ in which one they read.
fn case_conflicts(variables: &Variables) -> Vec<Finding> {
    let names = PROXIES.into_iter().chain([NO_PROXY]);
    names
        .filter_map(|upper| {
            let lower = upper.to_lowercase();
            let (one, other) = (variables.get(upper)?, variables.get(&lower)?);
            (one != other).then(|| {
                Finding::problem(
                    format!(
                        "{upper}={} and {lower}={} disagree, and programs differ in which they read",
                        address::shown(one),
                        address::shown(other)
                    ),
                    format!("export {upper}=\"${lower}\", or the other way round"),
                )
            })
        })
        .collect()
}

/// The hosts that bypass the proxy, except this machine itself.
fn bypassing(variables: &Variables, local: LocalAddresses) -> Vec<Finding> {
    let lower = NO_PROXY.to_lowercase();
    [NO_PROXY, lower.as_str()]
        .into_iter()
        .filter_map(|name| {
            let value = variables.get(name)?;
            let entries = value.split([',', ' ']).map(str::trim);
            let wide: Vec<&str> = entries
                .filter(|entry| !entry.is_empty() && !address::is_loopback(entry))
                .filter(|entry| {
                    local == LocalAddresses::Judged || !address::PRIVATE.contains(entry)
                })
                .collect();
            if wide.is_empty() {
                return None;
            }
            let what = if wide.contains(&"*") {
                "everything".to_owned()
            } else {
                wide.join(", ")
            };
            Some(Finding::problem(
                format!("{name} takes {what} past the proxy"),
                format!("unset {name}"),
            ))
        })
        .collect()
}

fn certificates(variables: &Variables, answers: Option<&RunningProxy>) -> Vec<Finding> {
    let ca = answers.and_then(|answers| answers.ca.as_ref().filter(|_| answers.intercepts()));
    let bundle = ca.and_then(|ca| ca.bundle_file.as_deref());
    let ca = ca.and_then(|ca| CertificateDer::from_pem_slice(ca.pem.as_bytes()).ok());
    CERTIFICATE_VARIABLES
        .iter()
        .filter_map(|name| {
            let state = look_into(Path::new(variables.get(*name)?), ca.as_ref());
            judge_certificates(name, &state, bundle)
        })
        .collect()
}

/// Checks a file of certificates for the CA. If no CA is in use, every readable file passes.
fn look_into(path: &Path, ca: Option<&CertificateDer<'_>>) -> CertificateFile {
    let content = Reading::up_to(MAX_LIST_BYTES).read(path);
    let content = match content {
        Ok(content) => content,
        Err(error) => return CertificateFile::Unreadable(error.to_string()),
    };
    let Some(ca) = ca else {
        return CertificateFile::HasCa;
    };
    let mut listed = CertificateDer::pem_slice_iter(&content).flatten();
    if listed.any(|listed| listed == *ca) {
        CertificateFile::HasCa
    } else {
        CertificateFile::LacksCa
    }
}

fn judge_certificates(
    name: &str,
    state: &CertificateFile,
    bundle: Option<&str>,
) -> Option<Finding> {
    let advice = bundle.map_or_else(
        || format!("unset {name}"),
        |bundle| format!("export {name}={bundle}"),
    );
    match state {
        CertificateFile::HasCa => None,
        CertificateFile::LacksCa => Some(Finding::problem(
            format!("{name} names a file without the CA for intercepted connections"),
            advice,
        )),
        CertificateFile::Unreadable(why) => Some(Finding::problem(
            format!("{name} names a file that cannot be read: {why}"),
            advice,
        )),
    }
}

#[cfg(test)]
mod tests;
