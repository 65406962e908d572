//! `check` of managed constraints by themselves, and of a configuration under given ones.

use super::with_files;

#[test]
fn l12_a_file_named_requirements_toml_is_judged_as_requirements() {
    let wrong = "[experimental_network]\nmode = \"limitd\"\nallow = 1\nenabled = \"no\"\n\
                 allowed_domains = [\"*\"]\n[experimental_network.daemon]\nsandbox = 3\n";
    for (name, arguments) in [
        ("requirements.toml", &["check", "requirements.toml"][..]),
        ("bounds.toml", &["check", "--requirements", "bounds.toml"]),
    ] {
        let run = with_files(&[(name, wrong)]).args(arguments).run();
        assert_eq!(run.failed().code, Some(1), "{run:?}");
        assert_eq!(run.stdout, "");
        for problem in [
            "2:8: `mode` must be \"full\" or \"limited\", not `limitd`",
            "3:1: unknown key `allow` in [experimental_network]",
            "4:11: `enabled` must be `true` or `false`, not a string",
            "5:20: bad pattern `*`",
            "7:11: `sandbox` must be a string, not an integer",
        ] {
            run.says(&format!("error: {name}:{problem}"));
        }
        assert_eq!(run.stderr.matches("error: ").count(), 5, "{}", run.stderr);
    }
    let program = with_files(&[("requirements.toml", "mode = limited\n")]);
    let run = program.args(["check", "requirements.toml"]).run();
    run.failed().says("error: requirements.toml:1:8: not TOML");
}

#[test]
fn l12_the_summary_of_requirements_names_every_bound() {
    let text = "[experimental_network]\nmode = \"limited\"\nallowed_domains = [\"a.example\"]\n\
                allow_upstream_proxy = false\n";
    let program = with_files(&[("requirements.toml", text)]);
    let run = program.args(["check", "requirements.toml"]).run();
    assert_eq!(
        run.succeeded().stdout,
        "read requirements.toml\nok: requirements, 2 bounds, 1 allow rule, 0 deny rules\n\
         allow_upstream_proxy: false, by requirements.toml:4\nmode: limited, by requirements.toml:2\n"
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn l12_requirements_without_effect_are_a_warning() {
    for (text, warning) in [
        (
            "mode = \"limited\"\n",
            "requirements.toml:1:1: `mode` bounds nothing here",
        ),
        (
            "[network]\nmode = \"limited\"\n",
            "requirements.toml:1:2: `network` bounds nothing here",
        ),
        (
            "allowed_approval_policies = []\n",
            "requirements.toml bounds nothing; write requirements in [experimental_network]",
        ),
    ] {
        let program = with_files(&[("requirements.toml", text)]);
        let run = program.args(["check", "requirements.toml"]).run();
        run.succeeded().says(&format!("warning: {warning}"));
    }
}

#[test]
fn l12_a_configuration_can_be_judged_under_requirements_that_are_named() {
    let files = [
        ("policy.toml", "[network]\nmode = \"full\"\n"),
        (
            "bounds.toml",
            "[experimental_network]\nmode = \"limited\"\n",
        ),
    ];
    let option = ["--requirements", "bounds.toml"];
    for words in [
        &["check", "policy.toml"][..],
        &["--config", "policy.toml", "check"],
    ] {
        with_files(&files).args(words).run().succeeded();
        let run = with_files(&files).args(words).args(option).run();
        assert_eq!(run.code, Some(1), "{run:?}");
        run.says("error: policy.toml:2:8: invalid value for network.mode: full (allowed limited)")
            .says("bounds.toml:2 has `mode = \"limited\"`; take the key out");
    }
}

#[test]
fn l12_a_directory_is_read_in_the_order_of_names_and_bounded_by_its_requirements() {
    let files = [
        ("d/20.toml", "[network]\nmode = \"limited\"\n"),
        ("d/10.toml", "[network]\nmode = \"full\"\n"),
        ("d/30.txt", "rubbish"),
    ];
    let run = with_files(&files).args(["check", "d"]).run();
    run.succeeded()
        .says("read d/10.toml\nread d/20.toml\nok: enabled, limited mode");
    let bounds = "[experimental_network]\nmode = \"limited\"\n";
    let bounded = [
        ("d/10.toml", "[network]\nmode = \"full\"\n"),
        ("d/requirements.toml", bounds),
    ];
    let run = with_files(&bounded).args(["check", "d"]).run();
    run.failed().says("d/10.toml:2:8: invalid value");
    let empty = with_files(&[("d/30.txt", "")]).args(["check", "d"]).run();
    empty.succeeded().says("warning: d has no *.toml");
}
