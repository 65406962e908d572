//! A redirect rule of the kernel, in a network namespace of its own.

use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;

use codex_network_policy::NoLocalAddresses;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{POLICY, name, open};
use crate::original_destination::from_kernel;
use crate::policy_dns::tests::kit::network::{Names, Redirect};
use crate::policy_dns::tests::kit::process::{is_alone, run_alone};
use crate::policy_dns::tests::kit::server::{echo, serve};
use crate::policy_dns::tests::kit::stream::in_time;
use crate::policy_dns::tests::{Scene, connect};
use crate::server::EngineParts;

/// Makes a network of its own, in which every connection out of loopback is redirected, and runs a command
/// there.
const JAIL: &str = r#"set -e
ip link set lo up
ip route add local default dev lo
ip -6 route add local default dev lo
nft -f - <<END
table inet jail {
    chain out {
        type nat hook output priority -100
        ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :3129
        ip6 daddr != ::1 meta l4proto tcp redirect to :3129
    }
}
END
exec "$@""#;

#[tokio::test]
async fn t2_the_kernel_knows_where_a_redirected_connection_was_going() {
    if !is_alone() {
        let test = "transparent::tests::kernel::t2_the_kernel_knows_where_a_redirected_connection_was_going";
        let as_user = ["unshare", "-Urn", "sh", "-c", JAIL, "sh"];
        let as_root = ["unshare", "-n", "sh", "-c", JAIL, "sh"];
        if let Err(why) = run_alone(test, &as_user).or_else(|_| run_alone(test, &as_root)) {
            // Past the test runner, which hides the output of passing tests.
            let _ = writeln!(
                io::stderr(),
                "cannot run here: {test}: needs a root that may make a network, or a user that may, with ip and nft: {}",
                why.lines().next().unwrap_or_default()
            );
        }
        return;
    }
    let origin = serve(echo).await;
    let dialled = Redirect::new(move |_| Some(origin));
    let parts = EngineParts {
        resolver: Some(Names::new(|_| vec![Ipv4Addr::new(8, 8, 8, 8).into()])),
        dialler: Arc::<Redirect>::clone(&dialled),
        // Here, every address is one of this machine.
        machine: Arc::new(NoLocalAddresses),
        ..EngineParts::default()
    };
    let scene = Scene::new(POLICY, parts);
    for door in ["127.0.0.1:3129", "[::1]:3129"] {
        let door = door.parse().expect("an address");
        open(&scene, door, from_kernel()).await;
    }
    scene.names.synthetic.address_of(&name("a.allowed.test"));
    for (destination, wanted) in [
        ("8.8.8.8:53", "8.8.8.8:53 allow allow"),
        ("[2001:4860::8]:443", "2001:4860::8:443 allow allow"),
        ("[::ffff:8.8.8.8]:443", "8.8.8.8:443 allow allow"),
        ("198.18.0.1:22", "a.allowed.test:22 allow allow"),
        ("198.18.0.2:22", "198.18.0.2:22 deny not_allowed_local"),
        (
            "203.0.113.7:5432",
            "203.0.113.7:5432 deny not_allowed_local",
        ),
        ("[fd00::7]:80", "fd00::7:80 deny not_allowed_local"),
        ("127.0.0.1:3129", "127.0.0.1:3129 deny loop_detected"),
        ("[::1]:3129", "::1:3129 deny loop_detected"),
    ] {
        let mut stream = connect(destination.parse().expect("an address")).await;
        stream.write_all(b"\0").await.expect("open");
        let echoed = in_time(stream.read_u8()).await;
        assert_eq!(echoed.is_ok(), wanted.ends_with(" allow"), "{destination}");
        let records = scene.records.take();
        assert_eq!(
            records,
            [format!("transparent_tcp {wanted}")],
            "{destination}"
        );
    }
}
