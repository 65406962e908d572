//! Content that a program could leave unread and take for the next request (SPEC P7, H10).

use super::ONE;
use super::scene::{Program, Script, SocketFolder, field};

#[tokio::test]
async fn p7_limited_mode_refuses_content_to_unix_sockets_too() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("one"));
    let scene = folder.scene(&format!("{ONE}\nmode = \"limited\""));
    let socket = field(&folder.path("one"));
    for method in ["GET", "HEAD", "OPTIONS"] {
        let answer = scene.ask(method, &socket, "content").await;
        assert_eq!(answer.status, 403, "{method}: {answer:?}");
        if method != "HEAD" {
            assert!(answer.body.contains("without content"), "{answer:?}");
        }
        let answer = scene
            .ask(method, &(socket.clone() + "Content-Length: 0\r\n"), "")
            .await;
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
    }
    assert_eq!(program.heads().len(), 3);
    assert_eq!(scene.blocked().0, ["method_not_allowed"; 3]);
}

#[tokio::test]
async fn h1_content_that_a_method_does_not_define_ends_its_connection_to_a_unix_socket() {
    let folder = SocketFolder::new();
    let program = Program::listen(&folder.path("one"), Script::Answer("one"));
    let scene = folder.scene(ONE);
    let socket = field(&folder.path("one"));
    for (method, connections) in [
        ("POST", 1),
        ("POST", 1),
        ("GET", 1),
        ("GET", 2),
        ("POST", 3),
    ] {
        let answer = scene.ask(method, &socket, "content").await;
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        assert_eq!(program.connections(), connections, "{method}");
        let head = program.heads().pop().expect("a request").to_lowercase();
        assert_eq!(
            head.contains("connection: close"),
            method == "GET",
            "{head}"
        );
    }
}
