"""The servers that the proxy forwards to: HTTP, HTTPS and a UDP echo, each on a free port of loopback."""

import collections
import socket
import socketserver
import ssl
import threading


class Origins:
    """The three servers, and a count of the requests by `Host`."""

    def __init__(self, tls):
        self.requests = collections.Counter()
        self.lock = threading.Lock()
        self.http = self._serve(None)
        self.https = self._serve(tls)
        self.udp = self._echo()

    def received(self, host):
        """How many requests named this host, with any port."""
        with self.lock:
            return sum(count for named, count in self.requests.items() if named.split(":")[0] == host)

    def _serve(self, tls):
        origins = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    stream = self.request if tls is None else tls.wrap_socket(self.request, server_side=True)
                    with stream:
                        origins._answer(stream)
                except (OSError, ssl.SSLError):
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 256

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    def _answer(self, stream):
        """Answers requests without a body, as long as the peer sends them."""
        pending = b""
        while True:
            while b"\r\n\r\n" not in pending:
                part = stream.recv(65536)
                if not part:
                    return
                pending += part
            head, pending = pending.split(b"\r\n\r\n", 1)
            fields = dict(line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
            with self.lock:
                self.requests[fields.get("host", "")] += 1
            body = b"x" * 1000
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def _echo(self):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))

        def loop():
            while True:
                datagram, peer = udp.recvfrom(65536)
                udp.sendto(datagram, peer)

        threading.Thread(target=loop, daemon=True).start()
        return udp.getsockname()[1]
