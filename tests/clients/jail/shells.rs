//! `ssh`, which knows no proxy, through the transparent door.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use e2e::daemon::{Config, Daemon};
use nix::unistd::{User, chown, geteuid};

use super::{Installed, Jail, Proxy, Variables, for_users, users};
use crate::ssh::Server;

#[test]
fn t2_t3_ssh_reaches_an_allowed_host_and_is_refused_others() {
    let users = users();
    if users.is_empty() {
        return;
    }
    let config = for_users(&Config::example());
    let installed = Installed::new(&config);
    let server = Server::start();
    let daemon = Daemon::start(&config);
    let login = User::from_uid(geteuid()).expect("the user database");
    let login = login.expect("a user with a name").name;
    let port = server.address.port().to_string();
    let script = "echo brought home | ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes \
                  -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                  -i $KEY -p $PORT $LOGIN@$NAME cat";
    for user in &users {
        let key = key_of(&installed, &server, user.as_ref());
        for proxy in [Proxy::Service(&daemon), Proxy::Private] {
            let jail = Jail {
                installed: &installed,
                user: user.as_ref(),
                proxy,
                variables: Variables::Unset,
            };
            let ssh = |name| {
                let variables = [
                    ("KEY", key.as_str()),
                    ("PORT", &port),
                    ("LOGIN", &login),
                    ("NAME", name),
                ];
                jail.run(&[], &variables, script)
            };
            assert_eq!(ssh("allowed.test").succeeded().stdout, "brought home\n");
            ssh("blocked.test")
                .failed()
                .says("Could not resolve hostname blocked.test");
            // A reset: the client's first bytes are not HTTP and not TLS.
            ssh("192.0.2.7").failed().says("Connection reset by peer");
        }
    }
}

/// A copy of the private key that this user may use: ssh refuses a key that others can read.
fn key_of(installed: &Installed, server: &Server, user: Option<&User>) -> String {
    let key = installed.path().join(user.map_or("key", |user| &user.name));
    fs::copy(server.path("user_key"), &key).expect("a new file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("our own file");
    if let Some(user) = user {
        chown(&key, Some(user.uid), Some(user.gid)).expect("root gives it away");
    }
    key.into_os_string().into_string().expect("a plain path")
}
