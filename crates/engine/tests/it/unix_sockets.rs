//! Requests to unix sockets (SPEC H10), over real ones. The platform's switch is on, on every
//! platform.

mod content;
pub(crate) mod scene;

use std::fs;
use std::os::unix::fs::symlink;

use codex_network_policy::{Mode, UnixSocketSupport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use self::scene::{Answer, Program, Script, SocketFolder, field};
use crate::kit::TIMEOUT;
use crate::kit::stream::read_head;

pub(crate) const ONE: &str = "allow_unix_sockets = [\"{}/one\"]";

#[tokio::test]
async fn h10_a_request_goes_to_the_socket_as_to_an_origin() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("hello"));
    let scene = folder.scene(ONE);
    let fields = field(&folder.path("one"))
        + "Accept: a/b\r\nProxy-Authorization: Basic eDp5\r\nVia: 1.1 x\r\nX-Forwarded-For: x\r\n\
           Keep-Alive: 5\r\nX_Unix_Socket: /x\r\n";
    let answer = scene.ask("GET", &fields, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!(
        program.heads(),
        ["GET /containers/json?all=1 HTTP/1.1\r\nHost: localhost\r\nAccept: a/b\r\n\r\n"]
    );
    assert_eq!(scene.records(), ["allow allow non_domain unix-socket:0"]);
}

#[tokio::test]
async fn h10_only_listed_sockets_and_links_to_them_are_reached() {
    let folder = SocketFolder::new();
    let one = Program::listen(&folder.path("one"), Script::Answer("one"));
    let two = Program::listen(&folder.path("two"), Script::Answer("two"));
    fs::create_dir(folder.path("folder")).expect("a folder");
    symlink("one", folder.path("link")).expect("a link");
    symlink("two", folder.path("other")).expect("a link");
    symlink("..", folder.path("folder/up")).expect("a link");
    symlink("nowhere", folder.path("dangling")).expect("a link");
    let scene = folder.scene(ONE);
    for name in [
        "one",
        "link",
        "folder/../one",
        "./one",
        "folder/up/one",
        "missing/../one",
    ] {
        assert_eq!(scene.get(&folder.path(name)).await.body, "one", "{name}");
    }
    for name in [
        "two",
        "other",
        "folder",
        "missing",
        "dangling",
        "one/below",
        "folder/../two",
        "",
    ] {
        let answer = scene.get(&folder.path(name)).await;
        // Exactly the same answer, whether a file exists or not.
        assert_eq!(answer.status, 403, "{name}: {answer:?}");
        assert_eq!(
            answer.body,
            r#"{"status":"blocked","host":"unix-socket","reason":"not_allowed","decision":"deny","source":"baseline_policy","protocol":"http","port":0,"message":"this unix socket is not on the list of the network policy; add its path to allow_unix_sockets and reload the proxy to allow it."}"#,
            "{name}"
        );
        assert!(
            answer
                .head
                .contains("\r\nx-proxy-error: blocked-by-allowlist")
        );
    }
    assert_eq!((one.heads().len(), two.connections()), (6, 0));
    let (reasons, text) = scene.blocked();
    assert_eq!(reasons, ["not_allowed"; 8]);
    assert!(
        text.contains(r#""host":"unix-socket""#) && text.contains(r#""port":null"#),
        "{text}"
    );
    assert!(!scene.is_named_in(&text), "{text}");
    let audited = scene.records();
    assert_eq!(
        audited[6..],
        ["deny not_allowed non_domain unix-socket:0"; 8]
    );
}

#[tokio::test]
async fn h10_a_listed_link_allows_its_target_under_any_name() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("real"), Script::Answer("real"));
    symlink("real", folder.path("one")).expect("a link");
    symlink("real", folder.path("other")).expect("a link");
    let scene = folder.scene(ONE);
    for name in ["one", "real", "other"] {
        assert_eq!(scene.get(&folder.path(name)).await.body, "real", "{name}");
    }
}

/// The unit tests of the connection show that no swap happens between the judgement and the connection.
#[tokio::test]
async fn h10_a_link_that_is_swapped_is_judged_by_where_it_leads_now() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), Script::Answer("one"));
    let secret = Program::listen(&folder.path("secret"), Script::Answer("secret"));
    let scene = folder.scene(ONE);
    let link = folder.path("link");
    for _ in 0..2 {
        symlink("one", &link).expect("a link");
        assert_eq!(scene.get(&link).await.body, "one");
        fs::remove_file(&link).expect("a link");
        symlink("secret", &link).expect("a link");
        assert_eq!(scene.get(&link).await.status, 403);
        fs::remove_file(&link).expect("a link");
    }
    assert_eq!(secret.connections(), 0);
}

#[tokio::test]
async fn h10_all_of_them_can_be_allowed() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("two"), Script::Answer("two"));
    let scene = folder.scene("dangerously_allow_all_unix_sockets = true");
    assert_eq!(scene.get(&folder.path("two")).await.body, "two");
    assert_eq!(scene.get("two".as_ref()).await.status, 403);
    assert_eq!(scene.get(&folder.path("missing")).await.status, 502);
}

#[tokio::test]
async fn h10_a_denied_socket_is_refused_under_any_name() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), Script::Answer("one"));
    Program::listen(&folder.path("two"), Script::Answer("two"));
    symlink("two", folder.path("link")).expect("a link");
    for denied in ["two", "link"] {
        let scene = folder.scene(&format!(
            "dangerously_allow_all_unix_sockets = true\nunix_sockets = {{ \"{{}}/{denied}\" = \"deny\" }}"
        ));
        for name in ["two", "link"] {
            let answer = scene.get(&folder.path(name)).await;
            assert_eq!(answer.status, 403, "{name}");
            assert!(answer.body.contains(r#""reason":"denied""#), "{answer:?}");
        }
        assert_eq!(scene.get(&folder.path("one")).await.body, "one");
    }
}

#[tokio::test]
async fn h10_a_path_must_be_absolute() {
    let folder = SocketFolder::new();
    let scene = folder.scene(ONE);
    let answer = scene.get("one".as_ref()).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer.body.contains(r#""reason":"not_allowed""#),
        "{answer:?}"
    );
    assert!(answer.body.contains("absolute path"), "{answer:?}");
    assert!(scene.blocked().1.contains(r#""detail":"relative_path""#));
}

#[tokio::test]
async fn h10_a_field_that_names_no_path_is_a_bad_request() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("one"));
    let scene = folder.scene(ONE);
    let one = field(&folder.path("one"));
    for (fields, why) in [
        (one.repeat(2), "more than one x-unix-socket field"),
        (format!("{one}x-unix-socket: /other\r\n"), "more than one"),
        (
            "X-Unix-Socket:\r\n".to_owned(),
            "the x-unix-socket field is empty",
        ),
        (
            "X-Unix-Socket:  \r\n".to_owned(),
            "the x-unix-socket field is empty",
        ),
        (
            field(format!("/{}", "x".repeat(4096)).as_ref()),
            "longer than",
        ),
        ("X-Unix-Socket: /a\0b\r\n".to_owned(), ""),
    ] {
        let answer = scene.ask("GET", &fields, "").await;
        assert_eq!(answer.status, 400, "{fields}: {answer:?}");
        assert!(answer.body.contains(why), "{fields}: {answer:?}");
    }
    // These requests named nothing that could be judged.
    assert_eq!(scene.records(), [""; 0]);
    assert_eq!(program.connections(), 0);
}

#[tokio::test]
async fn h10_the_target_must_be_a_plain_http_url() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("one"));
    let scene = folder.scene(ONE);
    for target in [
        "/containers/json",
        "https://localhost/",
        "http://a@localhost/",
    ] {
        let mut client = scene.client().await;
        let fields = field(&folder.path("one"));
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        client.write_all(request.as_bytes()).await.expect("a door");
        let head = read_head(&mut client).await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 400"), "{target}: {head}");
    }
    assert_eq!(program.connections(), 0);
}

#[tokio::test]
async fn h10_limited_mode_lets_only_reads_through() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("one"));
    let scene = folder.scene(&format!("{ONE}\nmode = \"limited\""));
    let socket = field(&folder.path("one"));
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(scene.ask(method, &socket, "").await.status, 200, "{method}");
    }
    for method in ["POST", "DELETE", "get"] {
        let answer = scene.ask(method, &socket, "").await;
        assert_eq!(answer.status, 403, "{method}: {answer:?}");
        assert!(
            answer
                .head
                .contains("x-proxy-error: blocked-by-method-policy")
        );
        assert!(answer.body.contains("full mode is needed"), "{answer:?}");
    }
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let answer = scene.ask("GET", &(socket.clone() + upgrade), "").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let overriding = socket + "X-HTTP-Method-Override: DELETE\r\n";
    program.heads();
    assert_eq!(scene.ask("GET", &overriding, "").await.status, 200);
    assert!(!program.heads()[0].to_lowercase().contains("override"));
}

#[tokio::test]
async fn h10_a_disabled_proxy_answers_so_before_any_other_check() {
    let folder = SocketFolder::new();
    let text = format!("{ONE}\nenabled = false\nmode = \"limited\"");
    for support in [UnixSocketSupport::Served, UnixSocketSupport::Unsupported] {
        let scene = folder.scene_with(&text, support);
        let answer = scene.ask("POST", &field("one".as_ref()), "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, "network proxy is disabled")
        );
        assert_eq!(
            scene.records(),
            ["deny proxy_disabled non_domain unix-socket:0"]
        );
    }
}

#[tokio::test]
async fn h10_a_platform_without_support_answers_so_before_the_path_is_checked() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("one"));
    for list in [ONE, "", "dangerously_allow_all_unix_sockets = true"] {
        let scene = folder.scene_with(list, UnixSocketSupport::Unsupported);
        for path in [
            folder.path("one"),
            folder.path("missing"),
            "relative".into(),
        ] {
            let answer = scene.get(&path).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (501, "unix sockets unsupported")
            );
            assert!(
                answer.head.contains("\r\ncontent-type: text/plain"),
                "{answer:?}"
            );
            assert!(
                answer.head.contains("\r\nx-proxy-error: blocked-by-policy"),
                "{answer:?}"
            );
            assert!(
                answer.head.contains(
                    r#"x-network-policy-decision: {"decision":"deny","reason":"unix_socket_unsupported","source":"proxy_state","protocol":"http","host":"unix-socket","port":0}"#
                ),
                "{answer:?}"
            );
        }
        let unsupported = "deny unix_socket_unsupported non_domain unix-socket:0";
        assert_eq!(scene.records(), [unsupported; 3]);
        scene
            .doors
            .engine
            .set_mode(Mode::Limited)
            .expect("no requirement");
        let answer = scene.ask("POST", &field(&folder.path("one")), "").await;
        assert_eq!(
            answer.status, 403,
            "the method is checked first: {answer:?}"
        );
    }
    assert_eq!(program.connections(), 0);
}

#[tokio::test]
async fn h10_a_listed_path_without_a_program_is_a_bad_gateway_that_names_the_party_at_fault() {
    let folder = SocketFolder::new();
    fs::create_dir(folder.path("folder")).expect("a folder");
    fs::write(folder.path("file"), "").expect("a file");
    drop(std::os::unix::net::UnixListener::bind(folder.path("dead")).expect("a socket"));
    let scene = folder
        .scene("allow_unix_sockets = [\"{}/folder\", \"{}/file\", \"{}/dead\", \"{}/missing\"]");
    for (name, what) in [
        ("folder", "the file at this path is not a socket"),
        ("file", "the file at this path is not a socket"),
        ("dead", "nothing listens on the socket"),
        ("missing", "there is no such socket"),
    ] {
        let answer = scene.get(&folder.path(name)).await;
        assert_eq!(answer.status, 502, "{name}");
        assert_eq!(
            answer.body,
            format!(
                "unix-socket: {what}. The proxy allowed the request; the fault lies with the socket or the program \
                 that should listen on it.\n"
            )
        );
        assert_eq!(scene.records(), ["allow allow non_domain unix-socket:0"]);
    }
    assert_eq!(scene.blocked().0, [""; 0]);
}

#[tokio::test]
async fn h10_connections_to_a_socket_are_kept_for_that_file_and_those_settings() {
    let folder = SocketFolder::new();
    let path = folder.path("one");
    let program = Program::listen(&path, Script::Answer("first"));
    symlink("one", folder.path("link")).expect("a link");
    let scene = folder.scene(ONE);
    for name in ["one", "one", "link"] {
        assert_eq!(scene.get(&folder.path(name)).await.body, "first");
    }
    assert_eq!(program.connections(), 1, "one file under two names");
    assert_eq!(scene.records(), ["allow allow non_domain unix-socket:0"; 3]);
    scene.replace(ONE);
    assert_eq!(scene.get(&path).await.body, "first");
    assert_eq!(program.connections(), 2, "not beyond its settings");
    // The first program still listens, on a file that no longer has a name.
    fs::rename(&path, folder.path("old")).expect("a name");
    Program::listen(&path, Script::Answer("second"));
    assert_eq!(scene.get(&path).await.body, "second");
}

#[tokio::test]
async fn h10_many_requests_of_one_client_go_to_hosts_and_sockets_each_by_itself() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), Script::Answer("one"));
    Program::listen(&folder.path("two"), Script::Answer("two"));
    let scene = folder
        .scene("allow_unix_sockets = [\"{}/one\", \"{}/two\"]\ndenied_domains = [\"a.test\"]");
    let mut client = scene.client().await;
    for (name, wanted) in [
        ("one", "200"),
        ("no", "403"),
        ("two", "200"),
        ("", "403"),
        ("one", "200"),
    ] {
        let field = match name {
            "" => String::new(),
            name => field(&folder.path(name)),
        };
        let request = format!("GET http://a.test/ HTTP/1.1\r\n{field}\r\n");
        client.write_all(request.as_bytes()).await.expect("a door");
        let head = read_head(&mut client).await.expect("an answer");
        assert_eq!(&head[9..12], wanted, "{name}");
        let length = head.to_lowercase();
        let length = length.split("content-length: ").nth(1).expect("a length");
        let length = length.lines().next().and_then(|line| line.parse().ok());
        let mut body = vec![0; length.expect("a number")];
        client.read_exact(&mut body).await.expect("a body");
        if wanted == "200" {
            assert_eq!(body, name.as_bytes());
        }
    }
}

#[tokio::test]
async fn h10_bodies_go_both_ways() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Echo);
    let scene = folder.scene(ONE);
    let content = "0123456789abcdef".repeat(64 * 1024);
    let socket = field(&folder.path("one"));
    let answer = scene.ask("POST", &socket, &content).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == content, "{} bytes", answer.body.len());
    let waits = socket + "Expect: 100-continue\r\n";
    let answer = scene.ask("PUT", &waits, "content").await;
    assert!(answer.body.ends_with("content"), "{answer:?}");
    assert_eq!(program.heads().len(), 2);
}

/// A request like that of `docker attach`.
const ATTACH: &str = "POST http://localhost/exec/1/start HTTP/1.1\r\nHost: localhost\r\n";
const TO_TCP: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

#[tokio::test]
async fn h9_h10_an_upgrade_is_carried_as_with_an_origin() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Upgrade("tcp"));
    let scene = folder.scene(ONE);
    let socket = field(&folder.path("one"));
    for content in [
        "Content-Length: 2\r\n\r\n{}",
        "Content-Type: text/plain\r\n\r\n",
    ] {
        let mut client = scene.client().await;
        let request = format!("{ATTACH}{socket}{TO_TCP}{content}");
        client.write_all(request.as_bytes()).await.expect("a door");
        let answer = read_head(&mut client).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(
            answer.to_lowercase().contains("\r\nupgrade: tcp\r\n"),
            "{answer}"
        );
        client.write_all(b"\0ls\n").await.expect("a tunnel");
        let mut back = [0; 4];
        client.read_exact(&mut back).await.expect("a tunnel");
        assert_eq!(&back, b"\0ls\n");
        client.shutdown().await.expect("an end");
        assert_eq!(client.read(&mut back).await.expect("an end"), 0);
        let seen = program.heads().concat().to_lowercase();
        assert!(seen.contains("\r\nupgrade: tcp\r\n"), "{seen}");
    }
}

#[tokio::test]
async fn h9_h10_an_upgrade_that_a_program_declines_is_an_ordinary_request() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), Script::Answer("no"));
    let scene = folder.scene(ONE);
    let fields = field(&folder.path("one")) + TO_TCP;
    let answer = scene.ask("POST", &fields, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "no"));
}

#[tokio::test]
async fn p11_h10_a_policy_that_tightens_ends_an_upgraded_connection() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), Script::Upgrade("tcp"));
    let scene = folder.scene(ONE);
    for tighten in ["", "mode = \"limited\"\nallow_unix_sockets = [\"{}/one\"]"] {
        scene.replace(ONE);
        let mut client = scene.client().await;
        let request = format!("{ATTACH}{}{TO_TCP}\r\n", field(&folder.path("one")));
        client.write_all(request.as_bytes()).await.expect("a door");
        let answer = read_head(&mut client).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        scene.replace(tighten);
        let mut byte = [0];
        let end = timeout(TIMEOUT, client.read(&mut byte));
        assert_eq!(end.await.expect("an end in time").unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn h10_a_malformed_answer_of_a_program_is_the_programs_fault() {
    let folder = SocketFolder::new();
    let scene = folder.scene(&format!("{ONE}\n[daemon.limits]\nidle_timeout = \"1s\""));
    for (writes, status, what) in [
        ("", 504, "did not answer in time"),
        ("SSH-2.0-x\r\n", 502, "did not answer in HTTP"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            502,
            "used transfer codings that cannot be passed on",
        ),
        (
            "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            502,
            "switched protocols unasked",
        ),
    ] {
        let path = folder.path("one");
        Program::listen(&path, Script::Write(writes));
        let answer = scene.get(&path).await;
        fs::remove_file(&path).expect("it is there");
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(
            answer.body.starts_with("unix-socket: the program "),
            "{answer:?}"
        );
        assert!(answer.body.contains(what), "{answer:?}");
        let whose = "the fault lies with the socket or the program that should listen on it";
        assert!(answer.body.contains(whose), "{answer:?}");
    }
}

#[tokio::test]
async fn p6_a_socket_of_the_proxys_own_is_refused_under_any_name() {
    let folder = SocketFolder::new();
    let path = folder.path("control");
    let control = Program::listen(&path, Script::Answer("control"));
    symlink("control", folder.path("link")).expect("a link");
    fs::hard_link(&path, folder.path("hard")).expect("a link");
    let scene = folder.scene("dangerously_allow_all_unix_sockets = true");
    let own = scene.doors.engine.own_unix_sockets().add(&path);
    for name in ["control", "link", "hard"] {
        let answer = scene.get(&folder.path(name)).await;
        assert_eq!(answer.status, 403, "{name}: {answer:?}");
        assert!(
            answer.body.contains(r#""reason":"loop_detected""#),
            "{answer:?}"
        );
        assert!(answer.body.contains("proxyctl"), "{answer:?}");
    }
    assert_eq!(control.connections(), 0);
    drop(own);
    assert_eq!(scene.get(&path).await.body, "control");
}

/// A request whose answer has begun and does not end.
async fn begun(scene: &scene::Scene, method: &str, socket: &str) -> tokio::net::TcpStream {
    let mut client = scene.client().await;
    let request = format!("{method} http://localhost/ HTTP/1.1\r\n{socket}\r\n");
    client.write_all(request.as_bytes()).await.expect("a door");
    let head = timeout(TIMEOUT, read_head(&mut client))
        .await
        .expect("in time");
    assert!(head.expect("an answer").starts_with("HTTP/1.1 200"));
    client
}

/// Whether the connection ends without the rest of the answer.
async fn is_cut(client: &mut tokio::net::TcpStream) -> bool {
    timeout(TIMEOUT, client.read_u8())
        .await
        .expect("in time")
        .is_err()
}

const BEGINS: Script = Script::Write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");

#[tokio::test]
async fn p11_a_reload_that_removes_the_path_ends_requests_under_way() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), BEGINS);
    symlink("one", folder.path("link")).expect("a link");
    let (one, link) = (field(&folder.path("one")), field(&folder.path("link")));
    for (socket, before, after) in [
        (&one, ONE, ""),
        (&one, ONE, "allow_unix_sockets = [\"{}/two\"]"),
        (
            &one,
            "dangerously_allow_all_unix_sockets = true",
            "allow_unix_sockets = [\"{}/two\"]",
        ),
        (&link, ONE, ""),
        (&one, "allow_unix_sockets = [\"{}/link\"]", ""),
        (
            &one,
            ONE,
            "enabled = false\nallow_unix_sockets = [\"{}/one\"]",
        ),
    ] {
        let scene = folder.scene(before);
        let mut client = begun(&scene, "GET", socket).await;
        scene.replace(after);
        assert!(is_cut(&mut client).await, "{before} -> {after}");
        assert_eq!(scene.blocked().0, [""; 0], "it was no attempt of its own");
    }
}

#[tokio::test]
async fn p11_limited_mode_ends_a_write_under_way() {
    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), BEGINS);
    let scene = folder.scene(ONE);
    let mut client = begun(&scene, "POST", &field(&folder.path("one"))).await;
    scene
        .doors
        .engine
        .set_mode(Mode::Limited)
        .expect("no requirement");
    assert!(is_cut(&mut client).await);
}

#[tokio::test]
async fn p11_permitted_requests_go_on() {
    let folder = SocketFolder::new();
    let (go, went) = tokio::sync::oneshot::channel::<()>();
    let listener = tokio::net::UnixListener::bind(folder.path("one")).expect("a socket");
    symlink("one", folder.path("link")).expect("a link");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        read_head(&mut stream).await.expect("a request");
        let begin = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
        let _ = stream.write_all(begin).await;
        let _ = went.await;
        let _ = stream.write_all(b"rest").await;
    });
    Program::listen(&folder.path("two"), BEGINS);
    let scene = folder.scene("allow_unix_sockets = [\"{}/link\", \"{}/two\"]");
    let mut client = begun(&scene, "GET", &field(&folder.path("one"))).await;
    // The entry whose link allowed it stays; then the file is listed under its own name; then all
    // are allowed.
    for (with_two, without) in [
        (
            "allow_unix_sockets = [\"{}/two\", \"{}/link\"]",
            "allow_unix_sockets = [\"{}/link\"]",
        ),
        ("allow_unix_sockets = [\"{}/two\", \"{}/one\"]", ONE),
        (
            "dangerously_allow_all_unix_sockets = true",
            "mode = \"limited\"\nallow_unix_sockets = [\"{}/one\"]",
        ),
    ] {
        scene.replace(with_two);
        let mut other = begun(&scene, "POST", &field(&folder.path("two"))).await;
        scene.replace(without);
        assert!(is_cut(&mut other).await, "{without}");
    }
    go.send(()).expect("the program waits");
    let mut rest = [0; 4];
    let read = timeout(TIMEOUT, client.read_exact(&mut rest));
    read.await.expect("in time").expect("the rest");
    assert_eq!(&rest, b"rest");
}

#[tokio::test]
async fn h10_connect_ignores_the_field() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("one"));
    let scene = folder.scene(ONE);
    let mut client = scene.client().await;
    let fields = field(&folder.path("one"));
    let request = format!("CONNECT 127.0.0.1:9 HTTP/1.1\r\n{fields}\r\n");
    client.write_all(request.as_bytes()).await.expect("a door");
    // A refused CONNECT leaves the connection to the next request.
    client.shutdown().await.expect("an open connection");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    let answer = Answer::of(&answer);
    assert!(
        answer.body.contains(r#""reason":"not_allowed_local""#),
        "{answer:?}"
    );
    assert_eq!(program.connections(), 0);
}
