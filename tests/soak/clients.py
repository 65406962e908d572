"""The load: clients of each kind, paced, with a tally of the result of every request."""

import collections
import socket
import struct
import threading
import time

import service

TIMEOUT = 10
# A kept connection, tunnel or association is replaced after this many uses.
USES = 50


class Unexpected(Exception):
    """An answer that the client does not accept."""


class Tally:
    """Counts of requests, by kind and by cause of failure."""

    def __init__(self, disturbances):
        self.lock, self.disturbances = threading.Lock(), disturbances
        self.done, self.failures = collections.Counter(), collections.Counter()

    def add(self, kind, begun, failure):
        """One request: `failure` is `None`, or what went wrong."""
        ended = time.monotonic()
        has_cause = any(begun < at + service.KILL_WINDOW and ended > at for at in list(self.disturbances))
        with self.lock:
            if failure is None:
                self.done[kind] += 1
            else:
                self.failures[kind, failure, has_cause] += 1

    def total(self):
        with self.lock:
            return sum(self.done.values()) + sum(self.failures.values())

    def failed(self):
        with self.lock:
            return sum(self.failures.values())

    def unexplained(self):
        with self.lock:
            return sum(count for (_, _, has_cause), count in self.failures.items() if not has_cause)


class Stream:
    """A connection that speaks HTTP/1.1 without request bodies."""

    def __init__(self, socket_):
        self.socket, self.pending, self.uses = socket_, b"", 0

    @classmethod
    def open(cls, address):
        connected = socket.create_connection(address, TIMEOUT)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connected)

    def get(self, target, host, expected):
        self.ask(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n", expected)

    def connect(self, authority, expected=200):
        self.ask(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n", expected)
        return self

    def ask(self, request, expected):
        self.socket.sendall(request.encode())
        while b"\r\n\r\n" not in self.pending:
            self._receive()
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        status, *fields = head.decode("latin-1").split("\r\n")
        length = next((int(field[15:]) for field in fields if field.lower().startswith("content-length:")), 0)
        while len(self.pending) < length:
            self._receive()
        self.pending = self.pending[length:]
        if int(status.split()[1]) != expected:
            raise Unexpected(status)

    def close(self):
        self.socket.close()

    def _receive(self):
        part = self.socket.recv(65536)
        if not part:
            raise Unexpected("closed without an answer")
        self.pending += part


def socks5(proxy, command, host, port):
    """A SOCKS5 request: the connection, and the address in the reply."""
    stream = socket.create_connection(proxy.door("socks5"), TIMEOUT)
    name = host.encode()
    stream.sendall(b"\5\1\0")
    receive_exactly(stream, 2)
    stream.sendall(bytes([5, command, 0, 3, len(name)]) + name + struct.pack("!H", port))
    reply = receive_exactly(stream, 10)
    if reply[1] != 0:
        stream.close()
        raise Unexpected(f"SOCKS5 reply {reply[1]}")
    return stream, (socket.inet_ntoa(reply[4:8]), struct.unpack("!H", reply[8:])[0])


def receive_exactly(stream, length):
    received = b""
    while len(received) < length:
        part = stream.recv(length - len(received))
        if not part:
            raise Unexpected("closed without an answer")
        received += part
    return received


class Client:
    """One client of a kind. `use` makes one request, on what `open` opened if that is kept."""

    is_kept = True

    def __init__(self, proxy, origins):
        self.proxy, self.origins, self.stream = proxy, origins, None
        self.plain = f"plain.test:{origins.http}"

    def request(self):
        if self.stream is None:
            self.stream = self.open()
        try:
            self.use(self.stream)
            self.stream.uses += 1
        except Exception:
            self.forget()
            raise
        if not self.is_kept or self.stream.uses >= USES:
            self.forget()

    def forget(self):
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()

    def open(self):
        return Stream.open(self.proxy.door("http"))

    def use(self, stream):
        stream.get(f"http://{self.plain}/", self.plain, 200)


class NewConnection(Client):
    is_kept = False


class Blocked(Client):
    def use(self, stream):
        authority = f"blocked.test:{self.origins.http}"
        stream.get(f"http://{authority}/", authority, 403)


class Tunnel(Client):
    def open(self):
        return super().open().connect(self.plain)

    def use(self, stream):
        stream.get("/", self.plain, 200)


class NewTunnel(Tunnel):
    is_kept = False


class Socks5(Tunnel):
    is_kept = False

    def open(self):
        return Stream(socks5(self.proxy, 1, "plain.test", self.origins.http)[0])


class Intercepted(Client):
    """HTTPS to a host with a hook: every fifth request is one that the hook does not allow."""

    def open(self):
        authority = f"hooked.test:{self.origins.https}"
        stream = super().open().connect(authority)
        return Stream(self.proxy.client_context.wrap_socket(stream.socket, server_hostname="hooked.test"))

    def use(self, stream):
        path, expected = ("/other", 403) if stream.uses % 5 == 4 else ("/allowed", 200)
        stream.get(path, f"hooked.test:{self.origins.https}", expected)


class Association(Client):
    """SOCKS5 UDP: one echoed datagram a request."""

    def open(self):
        control, relay = socks5(self.proxy, 3, "0.0.0.0", 0)
        stream = Stream(control)
        stream.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.udp.settimeout(TIMEOUT)
        stream.udp.connect(relay)
        return stream

    def forget(self):
        if self.stream is not None:
            self.stream.udp.close()
        super().forget()

    def use(self, stream):
        name = b"plain.test"
        header = b"\0\0\0\3" + bytes([len(name)]) + name + struct.pack("!H", self.origins.udp)
        payload = struct.pack("!d", time.monotonic()) + b"u" * 500
        stream.udp.send(header + payload)
        if not stream.udp.recv(65536).endswith(payload):
            raise Unexpected("another datagram")


# Each kind, the number of its clients, and their part of the load.
KINDS = [
    (Client, 3, 0.45),
    (NewConnection, 2, 0.15),
    (NewTunnel, 1, 0.08),
    (Tunnel, 1, 0.05),
    (Socks5, 1, 0.09),
    (Association, 1, 0.05),
    (Blocked, 1, 0.06),
    (Intercepted, 2, 0.07),
]


def start(rate, proxy, origins, tally, stop):
    """Starts the clients. Each ends after `stop`."""
    threads = []
    for kind, count, part in KINDS:
        for _ in range(count):
            client = kind(proxy, origins)
            interval = count / (rate * part)
            threads.append(threading.Thread(target=run, args=(client, interval, tally, stop), daemon=True))
            threads[-1].start()
    return threads


def run(client, interval, tally, stop):
    due = time.monotonic()
    while not stop.wait(max(0, due - time.monotonic())):
        begun = time.monotonic()
        # A client that is late does not catch up.
        due = max(due, begun - interval) + interval
        failure = None
        try:
            client.request()
        except (OSError, Unexpected) as error:
            failure = f"{type(error).__name__}: {error}"
        tally.add(type(client).__name__, begun, failure)
    client.forget()


class SometimesTunnel:
    """A tunnel to a host that every second reload denies: it must end then, and not before."""

    def __init__(self, proxy, origins, tally):
        self.proxy, self.tally, self.authority = proxy, tally, f"sometimes.test:{origins.http}"
        self.stream = None

    def open(self):
        """Opens it, if the policy in force allows the host."""
        if self.stream is None and not self.proxy.denies_sometimes:
            self._count("sometimes opened", lambda: Stream.open(self.proxy.door("http")).connect(self.authority))

    def check_after_reload(self, is_denied):
        stream = self.stream
        if is_denied and stream is not None:
            self.stream = None

            # Within a second (SPEC P11).
            def ended():
                stream.socket.settimeout(1)
                try:
                    if stream.socket.recv(1):
                        raise Unexpected("bytes in a tunnel that had to end")
                except ConnectionResetError:
                    pass
                stream.close()

            self._count("sometimes ended", ended)

    def _count(self, kind, action):
        begun, failure = time.monotonic(), None
        try:
            self.stream = action()
        except (OSError, Unexpected) as error:
            failure = f"{type(error).__name__}: {error}"
        self.tally.add(kind, begun, failure)
