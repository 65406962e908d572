//! npm, which installs a package of the test's own from a registry of the test's
//! own.

use std::fs;
use std::path::Path;

use e2e::origin::{Answer, Builder, Origin};
use e2e::program::{Program, Run};
use serde_json::json;
use tempfile::TempDir;

use crate::scene::{Attempt, CONTENT, Client, Door, Outcome, Scheme, client_tests, tar_gz};

struct Npm;

impl Client for Npm {
    /// The two resources of a registry that an installation asks for.
    fn origin(&self, scheme: Scheme) -> Builder {
        let tarball = tarball();
        Origin::answering(move |request| match request.target.as_str() {
            "/tiny" => {
                let authority = request.header("host").unwrap_or_default();
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
        })
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let project = TempDir::new().expect("a temporary directory");
        fs::write(project.path().join("package.json"), "{}").expect("a file");
        let run = install(attempt, project.path());
        let fetched = fs::read_to_string(project.path().join("node_modules/tiny/index.js")).ok();
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, door: Door) -> &'static [&'static str] {
        match (scheme, door) {
            (Scheme::Http, Door::Http) => &["403 Forbidden"],
            (Scheme::Https, Door::Http) => &["403"],
            (_, Door::Socks5) => &["NotAllowed"],
        }
    }
}

fn install(attempt: &Attempt<'_>, project: &Path) -> Run {
    let program = Program::new("npm");
    let empty = program.home().join("no-global-npmrc");
    let mut program = program
        .args(["install", "tiny@1.0.0", "--fetch-retries=0"])
        .args(["--no-audit", "--no-fund", "--no-update-notifier"])
        .args(["--registry", &format!("{}/", attempt.base)])
        .arg("--cafile")
        .arg(attempt.ca)
        // No configuration file of this machine.
        .arg("--globalconfig")
        .arg(empty)
        .current_dir(project);
    if let Some(proxy) = &attempt.proxy {
        program = program.args(["--proxy", proxy, "--https-proxy", proxy]);
    }
    program.run()
}

/// What `npm pack` would make: everything below `package/`.
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
