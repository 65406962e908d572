//! git over Basic: it asks without a credential first, and again with one after a `401`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;

use super::{Brokered, Through, brokered_tests};
use crate::client::CONTENT;
use crate::git::Repository;

const GITHUB: &str = "ghp_REALreal0123456789abcdefABCDEF012345";
const USER: &str = "x-access-token";

/// With a helper of the user's own.
fn git(through: Through) {
    let provider =
        "[network.credentials.github]\nuse = \"github\"\nurl_prefixes = [\"{origin}/tiny.git\"]\n";
    let helper = "!f() { echo username=x-access-token; echo \"password=$GH_TOKEN\"; }; f";
    clones_and_pushes(through, provider, "GH_TOKEN", helper);
}

brokered_tests!(git);

/// With the helper that `gh auth setup-git` sets up.
fn git_with_gh(through: Through) {
    let provider = "[network.credentials.github-enterprise]\nuse = \"github-enterprise\"\n\
                    url_prefixes = [\"{origin}/tiny.git\"]\n";
    let helper = "!gh auth git-credential";
    clones_and_pushes(through, provider, "GH_ENTERPRISE_TOKEN", helper);
}

brokered_tests!(git_with_gh);

fn clones_and_pushes(through: Through, provider: &str, variable: &str, helper: &str) {
    let client = Brokered {
        provider,
        variable,
        real: GITHUB,
        field: (
            "authorization",
            format!("Basic {}", STANDARD.encode(format!("{USER}:{GITHUB}"))),
        ),
        variables: &[
            ("GH_HOST", "{authority}"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "credential.{origin}.helper"),
            ("GIT_CONFIG_VALUE_0", helper),
        ],
        files: &[],
        script: "git clone $ORIGIN/tiny.git cloned\n\
                 cd cloned\n\
                 cat file\n\
                 cp file pushed\n\
                 git add pushed\n\
                 git -c user.name=me -c user.email=me@allowed.test commit --quiet --message=pushed\n\
                 git push origin main",
    };
    let repository = Repository::new();
    // The client shows these words after "remote: ".
    repository.says_after_a_push(&format!("your token is {GITHUB}"));
    let repository = Arc::new(repository);
    let served = Arc::clone(&repository);
    let targets = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&targets);
    let run = client.works(through, move |request| {
        seen.lock().push(request.target.clone());
        served.answer(request)
    });
    assert!(run.stdout.contains(CONTENT), "{run:#?}");
    run.says(&format!("remote: your token is {}", super::dummy(&run)));
    assert_eq!(repository.pushed().as_deref(), Some(CONTENT));
    let targets = targets.lock();
    for service in ["/git-upload-pack", "/git-receive-pack"] {
        assert!(
            targets.iter().any(|target| target.ends_with(service)),
            "{targets:?}"
        );
    }
}
