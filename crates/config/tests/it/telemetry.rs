//! `[daemon.telemetry]`: URLs, header fields and certificates (SPEC O2).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codex_network_config::{OtlpProtocol, OtlpScheme, Sources, Telemetry, load};

/// The full example with files of header fields and certificates in this directory.
pub(crate) fn with_files(text: &str, directory: &Path) -> String {
    let mut text = text.to_owned();
    for (name, content) in [
        ("headers", "authorization: Bearer sesame\n"),
        (
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n",
        ),
    ] {
        let file = directory.join(name);
        fs::write(&file, content).expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a file");
        let file = file.display().to_string();
        text = text.replace(&format!("/etc/secrets/{name}"), &file);
    }
    text
}

fn loaded(keys: &str) -> Result<(Telemetry, Vec<String>), String> {
    let text = format!("[daemon.telemetry]\n{keys}\n");
    let sources = Sources::none().with_text("a.toml", text);
    match load(&sources) {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().map(|found| found.message.clone());
            Ok((loaded.settings.daemon.telemetry, warnings.collect()))
        }
        Err(problems) => Err(problems.one_line()),
    }
}

fn telemetry(keys: &str) -> Telemetry {
    loaded(keys).expect("a configuration").0
}

#[test]
fn o2_nothing_is_exported_by_default() {
    assert_eq!(telemetry(""), Telemetry::default());
    assert_eq!(Telemetry::default().protocol, OtlpProtocol::HttpProtobuf);
    assert!(Telemetry::default().collector.is_none());
}

#[test]
fn o2_the_url_of_a_collector_has_a_host_and_port_and_perhaps_a_path() {
    for (url, shown) in [
        ("http://collector:4318", "http://collector:4318"),
        ("HTTP://Collector.Example", "http://collector.example:80"),
        (
            "https://collector.example/",
            "https://collector.example:443",
        ),
        ("https://c.example/otlp//", "https://c.example:443/otlp"),
        ("http://[::1]:4318/a%20b", "http://[::1]:4318/a%20b"),
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
    ] {
        let collector = telemetry(&format!("otlp = {url:?}")).collector;
        assert_eq!(collector.map(|at| at.to_string()).as_deref(), Some(shown));
    }
    for (url, wanted) in [
        ("collector:4318", "http:// or https://"),
        ("grpc://collector:4317", "http:// or https://"),
        ("http://", "no valid host and port"),
        ("http://a b:80", "no valid host and port"),
        ("http://collector:0", "no valid host and port"),
        ("http://[fe80::1%2]:4318", "no valid host and port"),
        ("http://collector:4318?a=b", "a query or a fragment"),
        ("http://collector:4318/#a", "a query or a fragment"),
        ("http://collector:4318/a b", "must be escaped"),
        ("", "is empty"),
    ] {
        let error = loaded(&format!("otlp = {url:?}")).expect_err(url);
        assert!(error.contains(wanted), "{url}: {error}");
    }
    let error = loaded("otlp = \"http://me:s3cret@collector:4318\"").expect_err("credentials");
    assert!(error.contains("headers_file"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    let https = telemetry("otlp = \"https://c.example\"").collector;
    assert_eq!(https.expect("a collector").scheme, OtlpScheme::Https);
}

#[test]
fn o2_grpc_has_no_path() {
    let keys = "otlp = \"http://collector:4317\"\nprotocol = \"grpc\"";
    assert_eq!(telemetry(keys).protocol, OtlpProtocol::Grpc);
    let error = loaded("otlp = \"http://collector:4317/a\"\nprotocol = \"grpc\"");
    assert!(error.expect_err("a path").contains("no path"));
    let error = loaded("otlp = \"http://collector:4317\"\nprotocol = \"http/json\"");
    assert!(error.expect_err("a word").contains("http/protobuf"));
}

#[test]
fn o2_keys_without_effect_and_fields_without_tls_are_warnings() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("headers");
    fs::write(&file, "a: b\n").expect("a file");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a file");
    let headers = format!("headers_file = {:?}", file.display().to_string());
    for (keys, wanted) in [
        (
            "protocol = \"grpc\"".to_owned(),
            Some("no effect without `otlp`"),
        ),
        (headers.clone(), Some("no effect without `otlp`")),
        (
            format!("otlp = \"http://collector.example\"\n{headers}"),
            Some("cross the network without TLS"),
        ),
        (format!("otlp = \"http://127.0.0.1\"\n{headers}"), None),
        (format!("otlp = \"http://localhost\"\n{headers}"), None),
        (
            format!("otlp = \"https://collector.example\"\n{headers}"),
            None,
        ),
    ] {
        let (telemetry, warnings) = loaded(&keys).expect("a configuration");
        match wanted {
            None => assert_eq!(warnings, [] as [String; 0], "{keys}"),
            Some(wanted) => assert!(warnings[0].contains(wanted), "{keys}: {warnings:?}"),
        }
        if keys.contains("headers_file") {
            assert_eq!(telemetry.headers.len(), 1);
            assert_eq!(telemetry.headers[0].value.expose(), b"b");
            assert!(!format!("{telemetry:?}").contains("98"), "{telemetry:?}");
        }
    }
}

#[test]
fn o2_a_file_of_certificates_has_at_least_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ca.pem");
    let keys = format!(
        "otlp = \"https://collector\"\nca_file = {:?}",
        file.display().to_string()
    );
    assert!(
        loaded(&keys)
            .expect_err("no file")
            .contains("cannot be read")
    );
    let block = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    for (text, wanted) in [
        ("something else", Err("has no certificate in PEM")),
        (
            "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
            Err("is not valid PEM"),
        ),
        (block, Ok(1)),
        (&format!("{block}{block}"), Ok(2)),
        (&block.repeat(65), Err("has too many certificates")),
    ] {
        fs::write(&file, text).expect("a file");
        let found = loaded(&keys);
        match wanted {
            Ok(count) => {
                let roots = found.expect("certificates").0.roots.expect("certificates");
                assert_eq!(roots.len(), count);
                assert_eq!(*roots[0], [1, 2, 3]);
            }
            Err(wanted) => {
                let error = found.expect_err(text);
                assert!(error.contains(wanted), "{error}");
            }
        }
    }
}
