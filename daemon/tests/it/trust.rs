//! A child keeps trusting what it trusted before: the bundle that replaces its own includes it
//! (SPEC B2).

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codex_network_proxy::{ChildEnvironment, NetworkProxyHandle};
use tempfile::TempDir;

use crate::scene::{Scene, run};

/// A certificate authority of the test's own: its certificate and its key, as PEM.
fn authority(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem().replace("\r\n", "\n"), key.serialize_pem())
}

fn put(directory: &TempDir, name: &str, content: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, content).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

/// A proxy that writes bundles there.
async fn proxy(scene: &Scene, bundles: &Path) -> NetworkProxyHandle {
    run(scene.builder().bundle_directory(bundles)).await
}

/// The bundle for a child with these variables: its path and its content.
fn applied(handle: &NetworkProxyHandle, variables: &[(&str, &str)]) -> (String, String) {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut environment: HashMap<_, _> = variables.iter().map(owned).collect();
    handle.apply_to_env(&mut environment);
    let path = environment["SSL_CERT_FILE"].clone();
    for name in ChildEnvironment::BUNDLE_VARIABLES {
        assert_eq!(environment[*name], path, "{name}");
    }
    let bundle = std::fs::read_to_string(&path).expect("the bundle");
    assert!(
        bundle.ends_with(&handle.ca_certificate_pem()),
        "ours is last"
    );
    (path, bundle)
}

fn certificates(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

#[tokio::test]
async fn b2_certificates_that_a_child_trusted_are_in_its_bundle_and_in_no_other() {
    let (scene, files) = (Scene::new().await, TempDir::new().expect("a directory"));
    let bundles = TempDir::new().expect("a directory");
    let handle = proxy(&scene, bundles.path()).await;
    let (plain, without) = applied(&handle, &[]);
    let ((one, key), (two, _)) = (authority("one"), authority("two"));
    let mine = put(&files, "mine.pem", &format!("{key}{one}"));
    let corporate = put(&files, "corporate.pem", &two);
    let child = [
        ("SSL_CERT_FILE", &*mine),
        ("NODE_EXTRA_CA_CERTS", &corporate),
        ("AWS_CA_BUNDLE", &mine),
    ];
    let (path, bundle) = applied(&handle, &child);
    assert_ne!(path, plain);
    assert!(bundle.contains(&one) && bundle.contains(&two), "{bundle}");
    assert_eq!(certificates(&bundle), certificates(&without) + 2);
    assert!(!bundle.contains("PRIVATE KEY"));
    assert!(Path::new(&path).starts_with(bundles.path()));

    // The bundle of one child is used for a child of that child: nothing is added twice.
    assert_eq!(applied(&handle, &[("SSL_CERT_FILE", &path)]).0, path);
    assert_eq!(applied(&handle, &[("CURL_CA_BUNDLE", &plain)]).0, plain);
    assert_eq!(applied(&handle, &[]).0, plain, "another child's");
    let of_all = handle.child_environment().expect("a door");
    assert_eq!(of_all.bundle.as_deref(), Some(Path::new(&plain)));
    handle.shutdown().await;
}

#[tokio::test]
async fn b2_files_that_are_of_no_use_leave_a_child_the_bundle_of_all() {
    let (scene, files) = (Scene::new().await, TempDir::new().expect("a directory"));
    let bundles = TempDir::new().expect("a directory");
    let handle = proxy(&scene, bundles.path()).await;
    let (plain, _) = applied(&handle, &[]);
    let broken = put(&files, "broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let missing = format!("{broken}.missing");
    let child = [
        ("REQUESTS_CA_BUNDLE", &*broken),
        ("PIP_CERT", &missing),
        ("DENO_CERT", "relative.pem"),
        ("GIT_SSL_CAINFO", ""),
    ];
    assert_eq!(applied(&handle, &child).0, plain);
    // Nothing is published any more where other users may write.
    let open_to_all = Permissions::from_mode(0o777);
    std::fs::set_permissions(bundles.path(), open_to_all).expect("a mode");
    let mine = put(&files, "mine.pem", &authority("one").0);
    assert_eq!(applied(&handle, &[("SSL_CERT_FILE", &mine)]).0, plain);
    handle.shutdown().await;
}

#[tokio::test]
async fn b2_without_interception_a_child_keeps_its_certificates() {
    let (scene, files) = (Scene::new().await, TempDir::new().expect("a directory"));
    let forbidden = scene.config("mitm = false");
    let builder = scene.builder().config_toml(forbidden);
    let handle = run(builder.bundle_directory(files.path())).await;
    let mine = put(&files, "mine.pem", &authority("one").0);
    let mut environment = HashMap::from([("SSL_CERT_FILE".to_owned(), mine.clone())]);
    handle.apply_to_env(&mut environment);
    assert_eq!(environment["SSL_CERT_FILE"], mine);
    assert!(!environment.contains_key("PIP_CERT"));
    handle.shutdown().await;
}
