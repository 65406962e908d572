//! skopeo, which reads images from registries as container engines do.

use e2e::origin::{Answer, Body, Builder, Origin, Reply, Request};
use e2e::program::Run;
use serde_json::json;

use crate::client::{
    Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests, sha256,
};
use crate::intercepted::{Intercepted, intercepted_tests};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

struct Skopeo;

impl Client for Skopeo {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(registry)
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(skopeo(attempt, &["inspect", "--config", "--raw"]))
    }

    fn refusals(&self, scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        match scheme {
            Scheme::Http => &["403 (Forbidden)"],
            Scheme::Https => &["Forbidden"],
        }
    }

    fn protocols(&self, scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        match scheme {
            // It tries HTTPS first.
            Scheme::Http => &["http", "http-connect"],
            Scheme::Https => &["http-connect"],
        }
    }
}

impl Intercepted for Skopeo {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        skopeo(attempt, &["delete"])
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        &["method_not_allowed"]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["certificate signed by unknown authority"]
    }

    fn versions(&self) -> &'static [&'static str] {
        &["HTTP/1.1", "HTTP/2.0"]
    }
}

/// An image whose configuration is [`CONTENT`].
fn registry(request: &Request) -> Answer {
    let digest = |content: &[u8]| format!("sha256:{}", sha256(content));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(CONTENT.as_bytes()),
            "size": CONTENT.len(),
        },
        "layers": [],
    })
    .to_string();
    match &*request.target {
        "/v2/" => Answer::json(&json!({})),
        "/v2/image/manifests/latest" => Answer::Reply(
            Reply::new(200, Body::Sized(manifest.clone().into_bytes()))
                .header("Content-Type", MANIFEST)
                .header("Docker-Content-Digest", &digest(manifest.as_bytes())),
        ),
        target if target == format!("/v2/image/blobs/{}", digest(CONTENT.as_bytes())) => {
            Answer::bytes("application/octet-stream", CONTENT.as_bytes())
        }
        _ => Answer::status(404),
    }
}

fn skopeo(attempt: &Attempt<'_>, command: &[&str]) -> Run {
    let mut program = attempt
        .program("skopeo")
        .arg("--insecure-policy")
        .args(command)
        .arg(format!("docker://{}/image:latest", attempt.authority()));
    // It uses plain HTTP only with this option.
    if attempt.base.starts_with("http://") {
        program = program.arg("--tls-verify=false");
    }
    if let Some(proxy) = &attempt.proxy {
        program = program.env("HTTP_PROXY", proxy).env("HTTPS_PROXY", proxy);
    }
    program.run()
}

client_tests!(Skopeo; http, https);
intercepted_tests!(Skopeo);
