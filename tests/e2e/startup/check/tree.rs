//! `check --root`: the files of another machine, as its service reads them.

use std::os::unix::fs::symlink;

use super::{run, with_files};

#[test]
fn l12_a_tree_is_read_as_the_service_would_read_it() {
    let own = "tree/etc/codex-network-proxy";
    let mode = |mode: &str| format!("[network]\nmode = \"{mode}\"\n");
    let files = [
        ("tree/etc/codex/config.toml", "[network]\nenabled = false\n"),
        (&*format!("{own}/config.toml"), &*mode("full")),
        (&*format!("{own}/conf.d/20.toml"), &*mode("limited")),
        (&*format!("{own}/conf.d/10.toml"), &*mode("full")),
        (
            "tree/etc/codex/requirements.toml",
            "[experimental_network]\ndenied_domains = [\"a.example\"]\n",
        ),
        (".codex/config.toml", &*mode("wrong")),
    ];
    let reported = with_files(&files).args(["check", "--root", "tree"]).run();
    reported.succeeded().says(&format!(
        "read tree/etc/codex/config.toml\nread {own}/config.toml\nread {own}/conf.d/10.toml\n\
         read {own}/conf.d/20.toml\nread tree/etc/codex/requirements.toml\n\
         ok: disabled, limited mode, 0 allow rules, 1 deny rule\n"
    ));
    let bounds = "[experimental_network]\nenabled = false\nmode = \"limited\"\n";
    let mut bounded = files.to_vec();
    bounded.push(("tree/etc/codex-network-proxy/requirements.toml", bounds));
    let reported = with_files(&bounded).args(["check", "--root", "tree"]).run();
    // The last layer wins, and is within the bounds.
    reported.succeeded();
    let option = ["check", "--root", "tree", "-c", "network.mode=full"];
    let reported = with_files(&bounded).args(option).run();
    reported
        .failed()
        .says("tree/etc/codex-network-proxy/requirements.toml:3 has `mode");
}

#[test]
fn l12_files_named_in_a_tree_are_looked_up_in_it() {
    let policy = "default_permissions = \"p\"\n[permissions.p.network]\n\
                  [permissions.p.network.mitm.hooks.h]\nhost = \"a.example\"\nmethods = [\"GET\"]\n\
                  path_prefixes = [\"/\"]\naction = [\"t\"]\n\
                  [[permissions.p.network.mitm.actions.t.inject_request_headers]]\n\
                  name = \"authorization\"\nsecret_file = \"/etc/of-the-tree/token\"\n\
                  [daemon.resolver]\nhosts_file = \"/etc/of-the-tree/hosts\"\n";
    let path = "tree/etc/codex-network-proxy/config.toml";
    let token = ("tree/etc/of-the-tree/token", "hunter2\n");
    let hosts = ("tree/etc/of-the-tree/hosts", "127.0.0.1 localhost\n");
    let check = |files: &[(&str, &str)]| {
        let files = [&[(path, policy)], files].concat();
        with_files(&files).args(["check", "--root", "tree"]).run()
    };
    check(&[token, hosts]).succeeded().says("1 hook");
    check(&[token])
        .failed()
        .says("cannot read tree/etc/of-the-tree/hosts: No such file");
    check(&[hosts])
        .failed()
        .says("cannot be read: No such file");
}

#[test]
fn l12_a_folder_that_is_not_a_tree_is_reported() {
    let missing = run(&["check", "--root", "missing"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    missing.says("error: --root missing: there is no such directory");
    let empty = with_files(&[("tree/x", "")]);
    let empty = empty.args(["check", "--root", "tree", "--strict"]).run();
    empty.failed().says("warning: tree has no configuration in");
    let both = run(&["check", "--root", "tree", "policy.toml"]);
    assert_eq!(both.code, Some(2), "{both:?}");
    let both = run(&["--config", "policy.toml", "check", "--root", "tree"]);
    assert_eq!(both.code, Some(2), "{both:?}");
}

#[test]
fn l12_a_link_out_of_a_tree_is_an_error() {
    let program = with_files(&[
        ("elsewhere.toml", "[network]\n"),
        ("tree/etc/codex/inside.toml", "[network]\n"),
    ]);
    let home = program.home().to_owned();
    let link = home.join("tree/etc/codex/config.toml");
    symlink("inside.toml", &link).expect("a link");
    let check = || {
        let again = e2e::program::Program::new(e2e::shipped::proxy());
        let again = again.current_dir(&home);
        again.args(["check", "--root", "tree"]).run()
    };
    check().succeeded();
    std::fs::remove_file(&link).expect("ours");
    symlink(home.join("elsewhere.toml"), &link).expect("a link");
    check()
        .failed()
        .says("error: tree/etc/codex/config.toml is a link that leads out of tree");
}
