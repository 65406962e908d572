//! A program of an embedder works with a key that it never holds (SPEC B3, B4, E2).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};
use std::sync::Arc;

use codex_network_proxy::config::{
    CredentialId, CredentialPattern, CredentialProvider, Destination, VariableName,
};
use codex_network_proxy::{
    NetworkProxyError, NetworkProxyHandle, built_in_providers, still_brokered,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::scene::{LOCAL, Scene, request, run};

/// A value that looks real and belongs to no account.
const REAL: &str = "sk-proj-REALreal0123456789abcdefABCDEF-_x";
const VARIABLE: &str = "OPENAI_API_KEY";
/// Tells a process of this test that it is the embedder: the port of the origin.
const ORIGIN: &str = "EMBEDDER_ORIGIN_PORT";

/// An HTTPS origin of `listed.test` that answers with its request. Returns its port, the certificate of its CA, and the
/// requests.
async fn origin() -> (u16, String, mpsc::UnboundedReceiver<String>) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a certificate");
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(["listed.test".to_owned()]).expect("a name");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("an origin");
    let port = listener.local_addr().expect("an address").port();
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(mut client) = acceptor.accept(client).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = client.read_u8().await else {
                    break;
                };
                head.push(byte);
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            let _ = client.write_all(answer.as_bytes()).await;
            let _ = client.shutdown().await;
            let _ = sender.send(text);
        }
    });
    (port, ca.pem(), requests)
}

/// The provider of the variable, for another place.
fn provider(destination: &str) -> CredentialProvider {
    let mut providers = built_in_providers().into_iter();
    let mut provider = providers
        .find(|provider| provider.id.as_str() == "openai")
        .expect("a built-in provider");
    provider.destinations = vec![Destination::parse(destination).expect("a destination")];
    provider.destinations_from.clear();
    provider
}

fn launcher(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let variables = variables.iter();
    variables
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The environment of a child that would have inherited these variables.
fn child(handle: &NetworkProxyHandle, variables: &[(&str, &str)]) -> HashMap<String, String> {
    let mut environment = launcher(variables).into_iter().collect();
    handle.apply_to_env(&mut environment);
    environment
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_e2_the_child_of_an_embedder_holds_a_dummy_and_the_origin_gets_the_real_value() {
    let (port, ca, mut requests) = origin().await;
    let files = tempfile::tempdir().expect("a directory");
    let roots = files.path().join("roots.pem");
    std::fs::write(&roots, ca).expect("a file");
    // The embedder is a process of its own, since a process reads its roots once.
    let output: Output = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["credentials::embedder", "--exact", "--nocapture"])
            .env(ORIGIN, port.to_string())
            .env("SSL_CERT_FILE", &roots)
            .env(VARIABLE, REAL)
            .env("COPY", format!("key={REAL}"))
            .output()
            .expect("this program runs")
    })
    .await
    .expect("an output");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    let request = requests.recv().await.expect("a request");
    assert!(request.contains(&format!("Bearer {REAL}")), "{said}");
    // The child's variables, and the answer that echoes the value.
    assert!(said.contains("child has sk-proj-masked"), "{said}");
    assert!(said.contains("copy is key=sk-proj-masked"), "{said}");
    assert!(said.contains("Bearer sk-proj-masked"), "{said}");
    assert!(!said.contains(REAL), "{said}");
}

/// The embedder of the test above: a proxy, and a child that sends its key with curl.
#[tokio::test(flavor = "multi_thread")]
async fn embedder() {
    let Ok(port) = std::env::var(ORIGIN) else {
        return;
    };
    let (scene, files) = (
        Scene::new().await,
        tempfile::tempdir().expect("a directory"),
    );
    let url = format!("https://listed.test:{port}");
    let builder = scene.builder().bundle_directory(files.path());
    let builder = builder.credentials(std::env::vars());
    let handle = run(builder.credential_providers([provider(&url)])).await;
    let mut environment: HashMap<String, String> = std::env::vars().collect();
    handle.apply_to_env(&mut environment);
    let script = format!(
        "echo \"child has $OPENAI_API_KEY\"; echo \"copy is $COPY\"; tr '\\0' '\\n' < /proc/self/environ; \
         curl -sS -H \"Authorization: Bearer $OPENAI_API_KEY\" {url}/v1"
    );
    let status = tokio::task::spawn_blocking(move || {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env_clear().envs(environment);
        shell.status()
    });
    let status = status.await.expect("a thread").expect("a shell");
    assert!(status.success());
    let [used] = &handle.credentials()[..] else {
        panic!("one credential");
    };
    assert_eq!((used.id.as_str(), used.uses), ("openai", 1));
    handle.shutdown().await;
}

/// A proxy whose children have a credential for a plain HTTP origin.
async fn plain(scene: &Scene) -> NetworkProxyHandle {
    let network = format!(
        "{LOCAL}\n{}",
        "dangerously_allow_plaintext_credential_injection = true"
    );
    let builder = codex_network_proxy::NetworkProxy::builder().config_toml(scene.config(&network));
    let builder = builder.credentials(launcher(&[(VARIABLE, REAL)]));
    let destination = format!("http://listed.test:{}", scene.port);
    run(builder.credential_providers([provider(&destination)])).await
}

async fn answer(door: SocketAddr, scene: &Scene, bearer: &str) -> String {
    let target = format!("http://listed.test:{}/", scene.port);
    let fields = format!(
        "Host: listed.test:{}\r\nAuthorization: Bearer {bearer}\r\n",
        scene.port
    );
    request(door, "GET", &target, &fields).await
}

#[tokio::test]
async fn b3_e2_the_dummy_of_one_proxy_is_worthless_in_another() {
    let scene = Scene::new().await;
    let (one, other) = (plain(&scene).await, plain(&scene).await);
    let dummies = [&one, &other].map(|handle| child(handle, &[])[VARIABLE].clone());
    assert_ne!(dummies[0], dummies[1]);
    assert_ne!(child(&one, &[(VARIABLE, REAL)])[VARIABLE], REAL);
    let doors = [&one, &other].map(|handle| handle.http_addr().expect("a door"));
    assert!(
        answer(doors[0], &scene, &dummies[0])
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(one.credentials()[0].uses, 1);
    // The other proxy does not know it, so it passes on a text that is of no use.
    assert!(
        answer(doors[1], &scene, &dummies[0])
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(other.credentials()[0].uses, 0);
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn b3_e2_credentials_outlive_other_settings_and_end_with_their_provider() {
    let scene = Scene::new().await;
    let handle = plain(&scene).await;
    let door = handle.http_addr().expect("a door");
    let dummy = child(&handle, &[])[VARIABLE].clone();
    let same = format!("{LOCAL}\ndangerously_allow_plaintext_credential_injection = true");
    handle
        .replace_toml(scene.config(&same))
        .await
        .expect("settings");
    assert!(
        answer(door, &scene, &dummy)
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(handle.credentials()[0].uses, 1);
    // Without the permission for plain HTTP, the dummy is refused there.
    handle
        .replace_toml(scene.config(LOCAL))
        .await
        .expect("settings");
    let refused = answer(door, &scene, &dummy).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert!(refused.contains("credential_unbound"), "{refused}");
    assert!(!refused.contains(REAL), "{refused}");
    let blocked = handle.blocked();
    let last = blocked.last().expect("an entry");
    assert_eq!(last.credential.as_deref(), Some("openai"));
    // The child's environment has the dummy still.
    assert_eq!(child(&handle, &[(VARIABLE, REAL)])[VARIABLE], dummy);
    handle.shutdown().await;
}

#[tokio::test]
async fn b3_e2_a_credential_without_a_dummy_does_not_reach_a_child() {
    let scene = Scene::new().await;
    let mut keyed = provider("https://listed.test");
    keyed.id = CredentialId::parse("keyed").expect("a name");
    keyed.variables = vec![VariableName::parse("PLAIN_KEY").expect("a name")];
    keyed.patterns = vec![CredentialPattern::parse("key-[a-z0-9]{40}").expect("a pattern")];
    let variables = [
        ("PLAIN_KEY", "not-of-the-pattern"),
        ("KEPT", "text"),
        (VARIABLE, REAL),
    ];
    let config = scene.config(&format!("{LOCAL}\ncredential_broker = true"));
    let builder = codex_network_proxy::NetworkProxy::builder().config_toml(config);
    let builder = builder.credentials(launcher(&variables));
    let handle = run(builder.credential_providers([keyed])).await;
    let environment = child(&handle, &variables);
    assert!(!environment.contains_key("PLAIN_KEY"));
    assert_eq!(environment["KEPT"], "text");
    // The providers of the settings count too.
    assert_eq!(still_brokered(&environment), [VARIABLE]);
    handle.shutdown().await;
}

#[tokio::test]
async fn b13_e1_a_source_that_only_the_service_reads_is_an_error_for_an_embedder() {
    let text = |source: &str| {
        format!(
            "[network]\ncredential_broker = true\n[network.credentials.keyed]\nenv = \"KEYED\"\n\
             url_prefixes = [\"https://allowed.test\"]\nsource = {source}\n"
        )
    };
    let build = |source: &str, has_broker: bool| {
        let builder = codex_network_proxy::NetworkProxy::builder()
            .managed_by_codex(true)
            .config_toml(text(source));
        if has_broker {
            builder.credentials(launcher(&[(VARIABLE, REAL)])).build()
        } else {
            builder.build()
        }
    };
    for source in [
        "{ file = \"/run/token\" }",
        "{ command = [\"/bin/true\"] }",
        "{ systemd_credential = \"token\" }",
    ] {
        let error = build(source, true).await.expect_err(source);
        assert!(
            matches!(error, NetworkProxyError::ServiceOnly(_)),
            "{error}"
        );
        assert!(build(source, false).await.is_ok(), "nothing has a dummy");
    }
    assert!(build("\"env\"", true).await.is_ok());
}
