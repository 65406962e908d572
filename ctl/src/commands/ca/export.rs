//! `proxyctl ca export`: the certificate, or the bundle, as PEM.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codex_network_control::Client;
use codex_network_control::message::CaQuery;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, OutputFormat};

/// The certificates to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Export {
    Certificate,
    /// The system's roots and the certificate.
    Bundle,
}

pub(super) async fn run(
    client: &Client,
    output: &Output,
    export: Export,
    out: Option<&Path>,
) -> Result<(), Failure> {
    let bundle = export == Export::Bundle;
    let ca = client.ca(CaQuery { bundle }).await?;
    let pem = if bundle {
        ca.bundle.unwrap_or_default()
    } else {
        ca.pem
    };
    if pem.is_empty() {
        return Err(Failure::no_ca());
    }
    // It is written to a terminal, or added to a list of trusted certificates.
    if !is_pem(&pem) {
        return Err(Failure::Failed(
            "the proxy's answer is not certificates in PEM".to_owned(),
        ));
    }
    match out {
        Some(path) => write_new(path, pem.as_bytes()).map_err(|error| refused(path, &error)),
        None if output.format() == OutputFormat::Json => Ok(output.json(&json!({ "pem": pem }))?),
        None => Ok(output.line(pem.trim_end())?),
    }
}

/// Whether a text consists of certificates and nothing that a terminal would interpret.
fn is_pem(text: &str) -> bool {
    let plain = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes()).peekable();
    text.bytes().all(plain) && certificates.peek().is_some() && certificates.all(|one| one.is_ok())
}

/// Writes a file that all users may read, whatever the umask. An existing file stays as it is.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content)?;
    file.sync_all()
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::Failed(match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{path} exists already and was not changed; remove it, or name another file")
        }
        _ => format!("cannot write {path}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_only_certificates_in_plain_text_are_exported() {
        let one = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(is_pem(one));
        assert!(is_pem(&format!("# Root\n{one}{one}")));
        for other in [
            String::new(),
            "hello\n".to_owned(),
            format!("{one}\x1b]0;title\x07"),
            format!("{one}\r\n"),
            one.replace("MAA=", "M"),
        ] {
            assert!(!is_pem(&other), "{other:?}");
        }
    }
}
