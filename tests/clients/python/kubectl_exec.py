"""Serves as much of the Kubernetes API as `kubectl exec` needs, at a free port over TLS, and runs kubectl
behind PROXY: the connection becomes SPDY/3.1, and what the container says comes back over it.

DIRECTORY has `server.pem` and `server.key`. Trust is the environment's.
"""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import zlib

HOST = "allowed.test"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod", "namespace": "default"},
    "spec": {"containers": [{"name": "one"}]},
    "status": {"phase": "Running"},
}
ANSWERS = {
    "/api/v1/namespaces/default/pods/pod": POD,
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["get"], "shortNames": ["po"]}
        ],
    },
}
SYN_STREAM, SYN_REPLY, DATA_ENDS = 1, 2, 1
ERRORS, OUTPUT, MORE_ERRORS = 1, 3, 5  # the order in which kubectl opens them


def head(stream):
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        byte = stream.read(1)
        if not byte:
            return None
        got += byte
    return got.decode()


def answer(stream, status, body):
    fields = "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    stream.write(b"HTTP/1.1 %s\r\n" % status + fields.encode() + body)
    stream.flush()


def spdy(stream):
    """Accepts three streams, says something on one of them, and ends them all."""
    fields = zlib.compressobj()
    opened = 0
    while opened < 3:
        version, kind, flags_and_length = struct.unpack("!HHI", stream.read(8))
        payload = stream.read(flags_and_length & 0xFFFFFF)
        if (version, kind) != (0x8003, SYN_STREAM):
            continue
        opened += 1
        block = fields.compress(bytes(4)) + fields.flush(zlib.Z_SYNC_FLUSH)
        reply = payload[:4] + block
        stream.write(struct.pack("!HHI", 0x8003, SYN_REPLY, len(reply)) + reply)
        stream.flush()
    success = json.dumps({"metadata": {}, "status": "Success"}).encode()
    for number, data in ((OUTPUT, b"brought home\n"), (MORE_ERRORS, b""), (ERRORS, success)):
        stream.write(struct.pack("!II", number, DATA_ENDS << 24 | len(data)) + data)
    stream.flush()
    while stream.read(1):
        pass


def serve(conn):
    stream = conn.makefile("rwb")
    while request := head(stream):
        method, target, _ = request.split(" ", 2)
        if method == "POST" and "/exec?" in target:
            if "upgrade: spdy/3.1" not in request.lower():
                answer(stream, b"400 Bad Request", b"Upgrade request required")
                continue
            print("the server was asked to speak SPDY/3.1", flush=True)
            stream.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
            )
            stream.flush()
            return spdy(stream)
        path, _, _ = target.partition("?")
        if found := ANSWERS.get(path):
            answer(stream, b"200 OK", json.dumps(found).encode())
        else:
            answer(stream, b"404 Not Found", b"{}")


def accept(listener, tls):
    def one(conn):
        try:
            with tls.wrap_socket(conn, server_side=True) as conn:
                serve(conn)
        except OSError:
            pass

    while True:
        conn, _ = listener.accept()
        threading.Thread(target=one, args=(conn,), daemon=True).start()


def main(proxy, directory):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory + "/server.pem", directory + "/server.key")
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener, tls), daemon=True).start()
    port = listener.getsockname()[1]
    bundle = os.environ["SSL_CERT_FILE"]
    # Newer ones speak WebSocket first.
    environment = {**os.environ, "HTTPS_PROXY": proxy, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}
    command = [
        "kubectl", f"--server=https://{HOST}:{port}", f"--certificate-authority={bundle}",
        "--token=token", "--namespace=default", "exec", "pod", "--", "say",
    ]
    sys.exit(subprocess.run(command, env=environment).returncode)


main(*sys.argv[1:])
