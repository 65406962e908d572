//! `[daemon.telemetry]`: the collector of audit events, with the header fields and the certificates that are
//! read from files (SPEC O2). No message has a part of these files.

use std::path::PathBuf;
use std::sync::Arc;

use codex_network_policy::{Authority, FieldClass, HeaderNameText, Host, is_same_field};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::catalogue::Key;
use crate::diagnostic::{Problems, quoted};
use crate::dialect::{RawSetting, RawSettings};
use crate::injected_field::is_value;
use crate::read;
use crate::secret::{ReadSecret, Readers, Secret, SecretReader, SecretSource};
use crate::settings::{OtlpCollector, OtlpHeader, OtlpProtocol, OtlpScheme, Telemetry};

/// Most header fields of a request.
const MAX_HEADERS: usize = 32;
/// Most certificates.
const MAX_CERTIFICATES: usize = 64;
/// Fields of HTTP and gRPC that the exporter writes itself.
const OWN_FIELDS: [&str; 6] = [
    "accept",
    "accept-encoding",
    "content-encoding",
    "content-type",
    "te",
    "user-agent",
];

/// Why a text is not the URL of a collector.
#[derive(Debug, thiserror::Error)]
enum UrlError {
    #[error("a collector has a URL with http:// or https://")]
    Scheme,
    #[error("the URL has a user name or a password")]
    Credentials,
    #[error("the URL has a query or a fragment")]
    Query,
    #[error("the path of the URL has a character that must be escaped")]
    Path,
    #[error("the URL has no valid host and port")]
    Authority,
}

/// Reads the keys besides `protocol`, which is in `telemetry` already.
pub(crate) fn interpret(
    raw: &RawSettings<'_>,
    telemetry: &mut Telemetry,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) {
    let url = raw.get(Key::OTLP);
    telemetry.collector = url.and_then(|setting| collector(setting, telemetry.protocol, problems));
    if let Some(setting) = raw.get(Key::OTLP_HEADERS_FILE) {
        telemetry.headers_file = read::path(setting, problems);
        if let Some(path) = telemetry.headers_file.clone() {
            telemetry.headers = headers(path, setting, secrets, problems).unwrap_or_default();
        }
    }
    if let Some(setting) = raw.get(Key::OTLP_CA_FILE) {
        telemetry.ca_file = read::path(setting, problems);
        if let Some(path) = telemetry.ca_file.clone() {
            telemetry.roots = certificates(path, setting, secrets, problems);
        }
    }
    warn(raw, telemetry, problems);
}

/// Warns of keys without effect, and of header fields that others on the network could read.
fn warn(raw: &RawSettings<'_>, telemetry: &Telemetry, problems: &mut Problems<'_>) {
    let Some(collector) = &telemetry.collector else {
        let others = [
            Key::OTLP_PROTOCOL,
            Key::OTLP_HEADERS_FILE,
            Key::OTLP_CA_FILE,
        ];
        let set = others.into_iter().find_map(|key| raw.get(key));
        if let Some(setting) = set.filter(|_| raw.get(Key::OTLP).is_none()) {
            let message = format!("{} has no effect without `otlp`", quoted(setting.name));
            problems.warning(setting.at, &message, "name a collector, or remove the key");
        }
        return;
    };
    if collector.scheme == OtlpScheme::Https {
        return;
    }
    if let Some(setting) = raw.get(Key::OTLP_CA_FILE) {
        let message = "`ca_file` has no effect with an http:// URL";
        problems.warning(
            setting.at,
            message,
            "write https:// in `otlp`, or remove it",
        );
    }
    let host = &collector.authority.host;
    let is_here = host.is_localhost() || host.ip().is_some_and(|address| address.is_loopback());
    if let Some(setting) = raw.get(Key::OTLP_HEADERS_FILE)
        && !is_here
    {
        let message = "the header fields for the collector cross the network without TLS";
        problems.warning(setting.at, message, "write https:// in `otlp`");
    }
}

fn collector(
    setting: RawSetting<'_>,
    protocol: OtlpProtocol,
    problems: &mut Problems<'_>,
) -> Option<OtlpCollector> {
    let text = read::text(setting, problems)?;
    let help = "write for example `otlp = \"http://collector.example:4318\"`";
    match parse(text) {
        Ok(collector) if protocol == OtlpProtocol::Grpc && !collector.path.is_empty() => {
            let message = "the URL of a gRPC collector has no path";
            problems.error(setting.node.at, message, "leave out what follows the port");
            None
        }
        Ok(collector) => Some(collector),
        Err(error @ UrlError::Credentials) => {
            // The line has them.
            problems.without_excerpts(|problems| {
                let help =
                    "put the credentials into `headers_file`, as in `authorization: Basic …`";
                problems.error(setting.node.at, &error.to_string(), help);
            });
            None
        }
        Err(error) => {
            problems.error(setting.node.at, &error.to_string(), help);
            None
        }
    }
}

fn parse(text: &str) -> Result<OtlpCollector, UrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => OtlpScheme::Http,
        "https" => OtlpScheme::Https,
        _ => return Err(UrlError::Scheme),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(UrlError::Credentials);
    }
    if path.contains(['?', '#']) {
        return Err(UrlError::Query);
    }
    // The characters of a path in RFC 3986 section 3.3, and the percent sign of an escape.
    let is_of_path =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
    if !path.bytes().all(is_of_path) {
        return Err(UrlError::Path);
    }
    let authority = Authority::parse(authority, Some(scheme.default_port()));
    let authority = authority.map_err(|_| UrlError::Authority)?;
    if let Host::V6(host) = &authority.host
        && host.scope().is_some()
    {
        return Err(UrlError::Authority);
    }
    Ok(OtlpCollector {
        scheme,
        authority,
        path: path.trim_end_matches('/').to_owned(),
    })
}

/// The content of a file that the process that loads may read.
fn content(
    source: &SecretSource,
    what: &str,
    setting: RawSetting<'_>,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Option<ReadSecret> {
    let found = secrets.read(source);
    found
        .map_err(|error| {
            let message = format!("{what} {error}");
            problems.error(setting.node.at, &message, error.help());
        })
        .ok()
}

fn headers(
    path: PathBuf,
    setting: RawSetting<'_>,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Option<Vec<OtlpHeader>> {
    let what = format!("the headers file {}", quoted(&path.display().to_string()));
    let source = SecretSource::File(path);
    let read = content(&source, &what, setting, secrets, problems)?;
    let mut error = |message: String, help: &str| {
        problems.error(setting.node.at, &message, help);
        None
    };
    if read.readers == Readers::Others {
        let help = "remove that permission, as in `chmod go-r FILE`";
        return error(format!("{what} can be read by others than its owner"), help);
    }
    let mut headers = Vec::new();
    for (number, line) in (1..).zip(read.secret.expose().split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match header(line) {
            Ok(header) => headers.push(header),
            Err(why) => {
                let help = "a line is `name: value`, as in `authorization: Bearer TOKEN`";
                return error(format!("line {number} of {what} {why}"), help);
            }
        }
    }
    if headers.len() > MAX_HEADERS {
        return error(format!("{what} has more than {MAX_HEADERS} fields"), "");
    }
    Some(headers)
}

/// One header field. The error follows the number of the line, and has no part of it.
fn header(line: &[u8]) -> Result<OtlpHeader, &'static str> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or("has no colon")?);
    let name = std::str::from_utf8(name).ok();
    let name = name.and_then(|name| HeaderNameText::parse(name).ok());
    let name = name.ok_or("has no valid name of a field")?;
    let is = |known: &&str| is_same_field(name.as_str(), known);
    let of_grpc = name.as_str().get(..5);
    if FieldClass::of(name.as_str()).is_some()
        || OWN_FIELDS.iter().any(is)
        || of_grpc.is_some_and(|start| is_same_field(start, "grpc-"))
    {
        return Err("names a field that the exporter writes itself, or that is not for servers");
    }
    let value = value[1..].trim_ascii();
    if value.is_empty() {
        return Err("has no value");
    }
    if !is_value(value) {
        return Err("has a value that is not printable ASCII");
    }
    Ok(OtlpHeader {
        name,
        value: Secret::new(value.to_vec()),
    })
}

fn certificates(
    path: PathBuf,
    setting: RawSetting<'_>,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Option<Arc<[Arc<[u8]>]>> {
    let what = format!("the file {}", quoted(&path.display().to_string()));
    let source = SecretSource::File(path);
    let read = content(&source, &what, setting, secrets, problems)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read.secret.expose()).collect();
    let why = match found {
        Err(_) => "is not valid PEM",
        Ok(found) if found.is_empty() => "has no certificate in PEM",
        Ok(found) if found.len() > MAX_CERTIFICATES => "has too many certificates",
        Ok(found) => return Some(found.iter().map(|found| Arc::from(&found[..])).collect()),
    };
    let help = "it holds `-----BEGIN CERTIFICATE-----` blocks";
    problems.error(setting.node.at, &format!("{what} {why}"), help);
    None
}
