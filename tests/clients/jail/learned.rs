//! `run --learn`: npm installs from a registry that no list allows, and then with the policy that this wrote (SPEC W1).

use e2e::daemon::Config;
use e2e::machine::{Need, has};
use e2e::origin::Origin;

use super::{Installed, Jail, Proxy, Variables};
use crate::client::{CONTENT, Scheme};
use crate::npm;

/// The tables of a configuration that are about the test's network, and no policy.
fn network(config: &str) -> String {
    let value = |key: &str| {
        let line = config.lines().find(|line| line.starts_with(key));
        line.unwrap_or_default().to_owned()
    };
    format!(
        "\n[daemon.resolver]\n{}\n{}\n",
        value("hosts_file"),
        value("nameservers")
    )
}

#[test]
fn w1_npm_ci_runs_with_the_policy_that_it_taught() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let registry = Origin::answering(npm::registry(Scheme::Http)).start();
    let installed = Installed::new(&Config::example().host("registry.test", [127, 0, 0, 1]));
    let base = format!("http://registry.test:{}", registry.addr().port());
    let script = format!(
        "cat >package.json <<'END'
{{\"name\":\"mine\",\"version\":\"1.0.0\",\"dependencies\":{{\"tiny\":\"1.0.0\"}}}}
END
cat >package-lock.json <<'END'
{{\"name\":\"mine\",\"version\":\"1.0.0\",\"lockfileVersion\":3,\"requires\":true,\"packages\":{{
\"\":{{\"name\":\"mine\",\"version\":\"1.0.0\",\"dependencies\":{{\"tiny\":\"1.0.0\"}}}},
\"node_modules/tiny\":{{\"version\":\"1.0.0\",\"resolved\":\"{base}/tiny/-/tiny-1.0.0.tgz\"}}}}}}
END
npm ci --fetch-retries=0 --no-audit --no-fund --no-update-notifier --registry {base}/ --globalconfig \"$PWD/none\" \\
  --cache \"$PWD/cache\" >&2 && cat node_modules/tiny/index.js"
    );
    let jail = Jail {
        installed: &installed,
        user: None,
        proxy: Proxy::Private,
        variables: Variables::Set,
    };
    let refused = jail.run(&[], &[], &script);
    refused.failed();
    assert!(!refused.stdout.contains(CONTENT), "{refused:?}");

    let learned = installed.path().join("learned.toml");
    let output = ["--learn", "--output", learned.to_str().expect("UTF-8")];
    let taught = jail.run(&output, &[], &script);
    taught.succeeded();
    assert_eq!(taught.stdout, CONTENT);
    let policy = std::fs::read_to_string(&learned).expect("the policy");
    assert!(policy.contains("\"registry.test\" = \"allow\""), "{policy}");

    // The same command without --learn, with this policy alone.
    let file = installed.path().join("config.toml");
    let before = std::fs::read_to_string(&file).expect("our own file");
    std::fs::write(&file, policy + &network(&before)).expect("our own file");
    let again = jail.run(&[], &[], &script);
    again.succeeded();
    assert_eq!(again.stdout, CONTENT);
}
