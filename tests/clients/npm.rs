//! npm, which installs a package of the test's own from a registry of the test's
//! own.

use std::fs;

use e2e::origin::{Answer, Builder, Origin, Request};
use e2e::program::{Program, Run};
use serde_json::json;
use tempfile::TempDir;

use crate::client::{
    Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests, tar_gz,
};
use crate::intercepted::{Intercepted, intercepted_tests};

struct Npm;

impl Client for Npm {
    fn origin(&self, scheme: Scheme) -> Builder {
        Origin::answering(registry(scheme))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let project = TempDir::new().expect("a temporary directory");
        fs::write(project.path().join("package.json"), "{}").expect("a file");
        let run = npm(attempt, &["install", "tiny@1.0.0"])
            .current_dir(project.path())
            .run();
        let fetched = fs::read_to_string(project.path().join("node_modules/tiny/index.js")).ok();
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            (Scheme::Http, ProxyProtocol::Http) => &["403 Forbidden"],
            (Scheme::Https, ProxyProtocol::Http) => &["403"],
            (_, ProxyProtocol::Socks5) => &["NotAllowed"],
        }
    }
}

impl Intercepted for Npm {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        let project = TempDir::new().expect("a temporary directory");
        let put = |name: &str, text: String| {
            fs::write(project.path().join(name), text).expect("a file");
        };
        let manifest = json!({ "name": "mine", "version": "1.0.0" });
        put("package.json", manifest.to_string());
        let authority = attempt.authority();
        put(".npmrc", format!("//{authority}/:_authToken=of-nobody\n"));
        npm(attempt, &["publish"]).current_dir(project.path()).run()
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        &["403 Forbidden - PUT"]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["SELF_SIGNED_CERT_IN_CHAIN"]
    }
}

/// The two resources of a registry that an installation needs.
pub(crate) fn registry(scheme: Scheme) -> impl Fn(&Request) -> Answer {
    let tarball = tarball();
    move |request| match request.target.as_str() {
        "/tiny" => {
            let authority = request.authority();
            let url = format!("{}://{authority}/tiny/-/tiny-1.0.0.tgz", scheme.name());
            Answer::json(&json!({
                "name": "tiny",
                "dist-tags": { "latest": "1.0.0" },
                "versions": { "1.0.0": {
                    "name": "tiny", "version": "1.0.0", "dist": { "tarball": url },
                } },
            }))
        }
        "/tiny/-/tiny-1.0.0.tgz" => Answer::bytes("application/gzip", &tarball),
        _ => Answer::status(404),
    }
}

fn npm(attempt: &Attempt<'_>, arguments: &[&str]) -> Program {
    let program = attempt.program("npm");
    let empty = program.home().join("no-global-npmrc");
    let mut program = program
        .args(arguments)
        .arg("--fetch-retries=0")
        .args(["--no-audit", "--no-fund", "--no-update-notifier"])
        .args(["--registry", &format!("{}/", attempt.base)])
        // No configuration file of this machine.
        .arg("--globalconfig")
        .arg(empty);
    if let Some(proxy) = &attempt.proxy {
        program = program.args(["--proxy", proxy, "--https-proxy", proxy]);
    }
    program
}

/// The output of `npm pack`: everything below `package/`.
fn tarball() -> Vec<u8> {
    let directory = TempDir::new().expect("a temporary directory");
    let package = directory.path().join("package");
    fs::create_dir(&package).expect("a directory");
    let manifest = json!({ "name": "tiny", "version": "1.0.0" }).to_string();
    fs::write(package.join("package.json"), manifest).expect("a file");
    fs::write(package.join("index.js"), CONTENT).expect("a file");
    tar_gz(directory.path(), "package")
}

client_tests!(Npm; http, https, socks5);
intercepted_tests!(Npm);
