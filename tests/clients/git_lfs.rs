//! git LFS: it requests a file by `POST`, and gets its content from another path.

use std::fs;

use e2e::daemon::Config;
use e2e::origin::{Answer, Builder, Origin};
use serde_json::json;
use tempfile::TempDir;

use crate::client::{
    Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, client_tests, sha256,
};
use crate::git::{commit, git, over_http};
use crate::intercepted::{attempt_through, limited_setup, setup_for};

/// `git lfs fetch` in a repository whose one file is stored on the server.
struct Fetch;

impl Client for Fetch {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|request| match (&*request.method, &*request.target) {
            ("POST", "/lfs/objects/batch") => {
                let scheme = request.header("x-scheme").unwrap_or("http");
                let authority = request.authority();
                let batch = json!({
                    "transfer": "basic",
                    "objects": [{
                        "oid": oid(),
                        "size": CONTENT.len(),
                        "actions": { "download": {
                            "href": format!("{scheme}://{authority}/content"),
                        } },
                    }],
                });
                let batch = batch.to_string();
                Answer::bytes("application/vnd.git-lfs+json", batch.as_bytes())
            }
            ("GET", "/content") => Answer::text(CONTENT),
            _ => Answer::status(404),
        })
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path();
        git(&["init", "--quiet", "--initial-branch=main"], path);
        let pointer = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            oid(),
            CONTENT.len()
        );
        fs::write(path.join("file"), pointer).expect("a file");
        fs::write(path.join(".gitattributes"), "file filter=lfs\n").expect("a file");
        commit(path, "pointer");
        let (scheme, _) = attempt.base.split_once("://").expect("a URL");
        let server = format!("lfs.url={}/lfs", attempt.base);
        let header = format!("http.extraHeader=X-Scheme: {scheme}");
        let run = over_http(attempt, &["-c", &server, "-c", &header])
            .args(["-c", "lfs.transfer.maxretries=1", "lfs", "fetch"])
            .current_dir(path)
            .run();
        let (oid, objects) = (oid(), path.join(".git/lfs/objects"));
        let object = objects.join(&oid[..2]).join(&oid[2..4]).join(&oid);
        let fetched = fs::read_to_string(object).ok();
        Outcome { run, fetched }
    }

    fn refusals(&self, _scheme: Scheme, _through: ProxyProtocol) -> &'static [&'static str] {
        // It shows the message of H5's JSON.
        &["not on the allow list", "Forbidden"]
    }
}

/// The name of [`CONTENT`].
fn oid() -> String {
    sha256(CONTENT.as_bytes())
}

client_tests!(Fetch; http, https);

/// M9: the two hooks that it needs.
#[test]
fn m9_hooks_permit_a_fetch_by_git_lfs() {
    let config = Config::example()
        .hook("batch", "allowed.test", &["POST"], "/lfs/objects/batch")
        .hook("content", "allowed.test", &["GET"], "/content");
    let setup = setup_for(Fetch.origin(Scheme::Https), &config);
    let outcome = attempt_through(&setup, |attempt| Fetch.attempt(attempt));
    outcome.run.succeeded();
    assert_eq!(outcome.fetched.as_deref(), Some(CONTENT));
}

#[test]
fn p7_git_lfs_is_refused_in_limited_mode() {
    let setup = limited_setup(Fetch.origin(Scheme::Https));
    let outcome = attempt_through(&setup, |attempt| Fetch.attempt(attempt));
    outcome.run.failed();
    assert_eq!(outcome.fetched, None);
    let entry = setup.daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
}
