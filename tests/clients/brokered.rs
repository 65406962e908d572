//! Real clients that hold a dummy of their credential only, and work (SPEC B3, B8, B9, B12).
//!
//! The origin of each accepts only the real value, and returns it. While a request waits for its answer, the
//! memory of every process of the client is searched for the real value.
//!
//! - `apis` is curl, node, `gh`, and the Python packages `openai` and `anthropic`.
//! - `repositories` is git: a clone and a push.
//! - `registries` is npm, pip, twine and cargo: an installation and a publication.
//! - `processes` searches the memory.

mod apis;
mod processes;
mod registries;
mod repositories;

use std::path::Path;
use std::sync::Arc;

use e2e::daemon::{Config, Daemon};
use e2e::machine::{Need, can, ordinary_user};
use e2e::origin::{Answer, Body, Origin, Reply, Request};
use e2e::program::{Program, Run};
use e2e::tls::{Server, TestCa};

use self::processes::Search;
use crate::jail::{Installed, for_users, path};

/// A client, and its credential.
struct Brokered<'a> {
    /// The provider in TOML. Here and in `variables`, `{origin}` stands for the URL of the origin, `{authority}` for
    /// its host with its port, and `{value}` for the value.
    provider: &'a str,
    /// The variable of the credential.
    variable: &'a str,
    /// Its value, which no service ever issued.
    real: &'a str,
    /// The field that the origin requires, and its value.
    field: (&'a str, String),
    /// Further variables of the caller.
    variables: &'a [(&'a str, &'a str)],
    /// Files in its working directory, which is also its home.
    files: &'a [(&'a str, Vec<u8>)],
    /// It shows the dummy that it found in an answer. `$ORIGIN` is the URL of the origin, and `$AUTHORITY` is its
    /// host with its port.
    script: &'a str,
}

/// The proxy and the isolation of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    /// A private proxy, and a jail where the machine can make one.
    Private,
    /// A service, and a jail where the machine can make one.
    Service,
    /// A service, and only the variables.
    Variables,
    /// As `Service`, for a user without rights.
    OrdinaryUser,
}

impl Brokered<'_> {
    /// Runs the client with an origin that answers like this, and checks that only the origin gets the real value.
    fn works(
        &self,
        through: Through,
        serve: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Run {
        let search = Arc::new(Search::new(self.real));
        let ca = TestCa::new();
        let origin = self.origin(&ca, &search, serve);
        let url = origin.url("allowed.test", "");
        let authority = url.trim_start_matches("https://");
        let settle = |text: &str| {
            let text = text.replace("{origin}", &url);
            text.replace("{authority}", authority)
                .replace("{value}", self.real)
        };
        let config = Config::example()
            .set("network", "credential_broker", "true")
            .append(&settle(self.provider));
        let config = for_users(&config);
        let installed = Installed::new(&config);
        let daemon = (through != Through::Private).then(|| Daemon::start_trusting(&config, &ca));
        let run = self
            .program(&installed, daemon.as_ref(), through)
            .env("ORIGIN", &url)
            .env("AUTHORITY", authority);
        let run = if through == Through::OrdinaryUser {
            run.user(&ordinary_user())
        } else {
            run.env("SSL_CERT_FILE", ca.file())
                .env("SSL_CERT_DIR", "/nonexistent")
        };
        let run = self
            .variables
            .iter()
            .fold(run, |run, (name, value)| run.env(name, settle(value)));
        for (name, content) in self.files {
            std::fs::write(run.home().join(name), content).expect("our own directory");
        }
        let run = run.run();
        let requests = origin.requests();
        let received: Vec<_> = requests.iter().map(Request::to_json).collect();
        assert_eq!(run.code, Some(0), "{run:#?} {received:#?}");
        self.check_output(&run);
        self.check_requests(&run, &requests);
        search.found_nothing(&url);
        if let Some(daemon) = daemon {
            let blocked = daemon.blocked();
            let mut reasons = blocked.iter().map(|entry| &entry["reason"]);
            assert!(
                reasons.all(|reason| reason != "credential_unbound"),
                "{blocked:#?}"
            );
        }
        run
    }

    /// An origin that accepts only the real value, and returns it in a field of each answer.
    fn origin(
        &self,
        ca: &TestCa,
        search: &Arc<Search>,
        serve: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Origin {
        let ((name, wanted), real) = (self.field.clone(), self.real.to_owned());
        let (name, search) = (name.to_owned(), Arc::clone(search));
        let answer = move |request: &Request| {
            if request.header(&name) != Some(&wanted) {
                let reply = Reply::new(401, Body::Sized(b"no such key".to_vec()));
                return Answer::Reply(reply.header("www-authenticate", "Basic realm=\"test\""));
            }
            let port = request.authority().rsplit(':').next().unwrap_or_default();
            search.look(&format!("https://allowed.test:{port}"));
            match serve(request) {
                Answer::Reply(reply) => Answer::Reply(reply.header("x-your-key", &real)),
                other => other,
            }
        };
        let server = Server::of(ca, &["allowed.test"]).alpn(&["h2", "http/1.1"]);
        Origin::answering(answer).tls_as(&server).start()
    }

    /// `proxyctl run` with the script, which shows the dummy first.
    fn program(&self, installed: &Installed, daemon: Option<&Daemon>, through: Through) -> Program {
        let mut program = Program::new(installed.path().join("proxyctl"));
        program = match daemon {
            Some(daemon) => program
                .arg("--socket")
                .arg(daemon.control_socket())
                .arg("run"),
            None => program
                .args(["run", "--config"])
                .arg(installed.path().join("config.toml")),
        };
        if through == Through::Variables || !can(Need::UserNamespaces) {
            program = program.args(["--isolation", "env"]);
        }
        let script = format!("set -e\necho \"${}\"\n{}", self.variable, self.script);
        program
            .args(["--", "sh", "-c", &script])
            .env("XDG_RUNTIME_DIR", installed.path())
            .env("PATH", tools())
            .env(self.variable, self.real)
    }

    /// The first line is the dummy. It returns in an answer, and the real value does not.
    fn check_output(&self, run: &Run) {
        let dummy = dummy(run);
        assert!(dummy.contains("masked"), "{run:#?}");
        let output = format!("{}{}", run.stdout, run.stderr);
        assert!(output.matches(dummy).count() >= 2, "{run:#?}");
        assert!(!output.contains(self.real), "{run:#?}");
    }

    /// Each request has the real value or no value at all, and never the dummy.
    fn check_requests(&self, run: &Run, requests: &[Request]) {
        let (name, wanted) = &self.field;
        let accepted = requests.iter().filter_map(|request| request.header(name));
        let accepted: Vec<&str> = accepted.collect();
        assert!(!accepted.is_empty(), "{run:#?}");
        assert!(
            accepted.iter().all(|value| value == wanted),
            "{accepted:?} {run:#?}"
        );
        for request in requests {
            let whole = request.to_json().to_string();
            assert!(!whole.contains(dummy(run)), "{whole}");
        }
    }
}

/// The first line that the command wrote.
fn dummy(run: &Run) -> &str {
    run.stdout.lines().next().unwrap_or_default()
}

/// The programs of `.ci/clients`, then those of the machine.
fn tools() -> String {
    let python = e2e::program::installed("venv/bin");
    format!("{}:{}", Path::display(&python), path())
}

/// Whether a program that reads no proxy variable reaches the proxy.
fn holds_any_program(through: Through) -> bool {
    through != Through::Variables && can(Need::UserNamespaces)
}

/// The tests of a client.
macro_rules! brokered_tests {
    ($client:ident) => {
        mod $client {
            use crate::brokered::Through;

            #[test]
            fn b3_b8_b9_b12_works_with_a_private_proxy() {
                super::$client(Through::Private);
            }

            #[test]
            fn b3_b8_b9_b12_works_with_a_service() {
                super::$client(Through::Service);
            }

            #[test]
            fn b3_b8_b9_b12_works_with_the_variables_of_a_service() {
                super::$client(Through::Variables);
            }
        }
    };
}

use brokered_tests;
