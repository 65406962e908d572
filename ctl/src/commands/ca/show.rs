//! `proxyctl ca show`.

use codex_network_control::Client;
use codex_network_control::message::{Ca, CaQuery};

use crate::failure::Failure;
use crate::listener::AnsweringProxy;
use crate::output::{Output, OutputFormat, Tone, grouped, printable, utc};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let ca = client.ca(CaQuery::default()).await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&ca)?);
    }
    if ca.subject.is_empty() {
        return Err(Failure::no_ca());
    }
    output.line(&output.paint(Tone::Heading, &printable(&ca.subject)))?;
    let path = |path: &Option<String>| match path {
        Some(path) => printable(path),
        None if ca.unused => {
            "written when something can be intercepted: in limited mode, or with hooks".to_owned()
        }
        None => output.paint(
            Tone::Bad,
            "not written: the state directory cannot be used, see `proxyctl status`",
        ),
    };
    let kept = match &ca.kept_at {
        Some(path) => printable(path),
        None => "in memory only, until the proxy stops; `codex-network-proxy init` makes a permanent one"
            .to_owned(),
    };
    let roots = match ca.roots {
        0 => output.paint(
            Tone::Bad,
            "none were found; install ca-certificates (no restart needed), or set SSL_CERT_FILE for the proxy and restart it",
        ),
        count => format!("{} root certificates of the system", grouped(count as u64)),
    };
    output.labelled(&[
        (
            "fingerprint",
            format!("SHA-256 {}", printable(&ca.fingerprint)),
        ),
        (
            "valid",
            format!("from {} to {}", utc(ca.not_before), utc(ca.not_after)),
        ),
        ("kept", kept),
        ("certificate", path(&ca.certificate_file)),
        ("bundle", path(&ca.bundle_file)),
        ("roots", roots),
    ])?;
    output.line("")?;
    output.line(&output.paint(Tone::Heading, "To make programs trust it"))?;
    let install = if AnsweringProxy::of(client).is_of_root() {
        INSTALLED_BY_US
    } else {
        INSTALLED_BY_HAND
    };
    let ways = ways(&ca, install);
    if !output.wraps() {
        return Ok(output.labelled(&ways)?);
    }
    for (system, way) in ways {
        output.line(&format!("  {}", output.paint(Tone::Faint, system)))?;
        output.command("    ", &way)?;
    }
    Ok(())
}

/// The commands that make Debian, Fedora and macOS trust the CA of root's proxy.
const INSTALLED_BY_US: [&str; 3] = [
    "sudo proxyctl ca install (which runs update-ca-certificates)",
    "sudo proxyctl ca install (which runs update-ca-trust)",
    "sudo proxyctl ca install (which runs security add-trusted-cert)",
];
/// The same for a user's own proxy, which `ca install` does not trust.
const INSTALLED_BY_HAND: [&str; 3] = [
    "sudo install -m 644 FILE /usr/local/share/ca-certificates/codex-network-proxy.crt && sudo update-ca-certificates",
    "sudo install -m 644 FILE /etc/pki/ca-trust/source/anchors/codex-network-proxy.crt && sudo update-ca-trust extract",
    "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain FILE",
];

/// Instructions for the usual systems and programs. Those that replace their list of roots get the
/// bundle, those that extend it get the certificate.
fn ways(ca: &Ca, install: [&str; 3]) -> [(&'static str, String); 7] {
    let file = ca.certificate_file.as_deref().map_or_else(
        || "ca.pem (from `proxyctl ca export --out ca.pem`)".to_owned(),
        printable,
    );
    let bundle = ca.bundle_file.as_deref().map_or_else(
        || "bundle.pem (from `proxyctl ca export --bundle --out bundle.pem`)".to_owned(),
        printable,
    );
    let [debian, fedora, macos] = install.map(|way| way.replace("FILE", &file));
    [
        (
            "one program",
            format!("SSL_CERT_FILE={bundle} PROGRAM (curl, git, Python, Ruby, Go and others)"),
        ),
        ("Debian, Ubuntu", debian),
        ("Fedora, RHEL", fedora),
        ("macOS", macos),
        (
            "Firefox",
            format!("Settings, Privacy & Security, View Certificates, Authorities, Import: {file}"),
        ),
        (
            "Java",
            format!(
                "keytool -importcert -cacerts -storepass changeit -alias codex-network-proxy -file {file}"
            ),
        ),
        ("Node", format!("NODE_EXTRA_CA_CERTS={file} node PROGRAM")),
    ]
}
