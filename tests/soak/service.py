"""The proxy under load: its configuration, its processes, and the disturbances that the run causes."""

import collections
import json
import os
import pathlib
import signal
import ssl
import subprocess
import threading
import time

HOSTS = ["plain.test", "hooked.test", "sometimes.test", "blocked.test"]
START_TIMEOUT = 30
STOP_TIMEOUT = 45
# A failure within this many seconds after a worker was killed has a cause.
KILL_WINDOW = 3

CONFIG = """
[network]
proxy_url = "http://127.0.0.1:0"
socks_url = "socks5h://127.0.0.1:0"
admin_url = "http://127.0.0.1:0"
allow_local_binding = true
allowed_domains = ["plain.test", "hooked.test", "sometimes.test"]
denied_domains = {denied}

[network.mitm]
ca_cert_path = "{directory}/proxy-ca.pem"
ca_key_path = "{directory}/proxy-ca.key"

[network.mitm.hooks.read]
host = "hooked.test"
methods = ["GET"]
path_prefixes = ["/allowed"]

[daemon]
log_format = "json"
state_dir = "{directory}/state"

[daemon.control]
socket = "{directory}/control.sock"

[daemon.resolver]
hosts_file = "{directory}/hosts"
nameservers = ["127.0.0.1:9"]
"""


class Authority:
    """A CA for the HTTPS origin, made by openssl."""

    def __init__(self, directory):
        self.certificate = directory / "origin-ca.pem"
        self.chain = directory / "origin.pem"
        self.key = directory / "origin.key"
        ca_key = directory / "origin-ca.key"
        request = directory / "origin.csr"
        extensions = directory / "extensions"
        extensions.write_text("subjectAltName=DNS:hooked.test\n")
        new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        ca = ["-x509", "-days", "7", "-subj", "/CN=soak", "-addext", "keyUsage=critical,keyCertSign"]
        openssl(*new, *ca, "-keyout", ca_key, "-out", self.certificate)
        openssl(*new, "-subj", "/CN=hooked.test", "-keyout", self.key, "-out", request)
        signer = ["-CA", self.certificate, "-CAkey", ca_key, "-CAcreateserial"]
        openssl("x509", "-req", "-in", request, *signer, "-days", "7", "-extfile", extensions, "-out", self.chain)

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Service:
    """A started proxy."""

    def __init__(self, programs, directory, authority, origins):
        self.programs, self.directory, self.origins = programs, directory, origins
        self.denies_sometimes = False
        self.disturbances = []
        self.reloads = 0
        # The log by level, its warnings and errors, and the lines that the proxy itself reports as lost.
        self.levels, self.warnings, self.lost = collections.Counter(), collections.Counter(), 0
        self.addresses, self.ready = {}, threading.Event()
        (directory / "hosts").write_text("".join(f"127.0.0.1 {host}\n" for host in HOSTS))
        self._configure()
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "CODEX_HOME": str(directory),
                       "SSL_CERT_FILE": str(authority.certificate), "SSL_CERT_DIR": "/nonexistent"}
        self.process = subprocess.Popen(
            [programs / "codex-network-proxy", "--config", directory / "config.toml"],
            env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE)
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        if not self.ready.wait(START_TIMEOUT):
            self.process.kill()
            raise SystemExit(f"soak: the proxy does not start: {dict(self.warnings)}")
        self.client_context = ssl.create_default_context(cafile=directory / "proxy-ca.pem")

    def door(self, listener):
        host, port = self.addresses[listener].rsplit(":", 1)
        return host, int(port)

    def is_running(self):
        return self.process.poll() is None

    def roles(self):
        """The monitor and its current worker."""
        found = [("monitor", self.process.pid)]
        worker = self._worker()
        return found + ([("worker", worker)] if worker else [])

    def kill_worker(self):
        worker = self._worker()
        if worker:
            self.disturbances.append(time.monotonic())
            os.kill(worker, signal.SIGKILL)

    def reload(self, tally):
        """Denies `sometimes.test`, or allows it again. The result is in force on return."""
        self.denies_sometimes = not self.denies_sometimes
        self._configure()
        self.reloads += 1
        self._proxyctl(tally, "reload")

    def call_proxyctl(self, tally):
        url = f"http://plain.test:{self.origins.http}/"
        for arguments in (["status", "--json"], ["blocked", "--json"], ["patterns"], ["explain", url]):
            self._proxyctl(tally, *arguments)

    def stop(self):
        """Asks it to stop. Returns the exit code, or `None` if it did not end in time."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None
        self.reader.join()
        return code

    def _proxyctl(self, tally, *arguments):
        begun = time.monotonic()
        command = [self.programs / "proxyctl", "--socket", self.directory / "control.sock", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        failure = None if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr.strip()}"
        tally.add(f"proxyctl {arguments[0]}", begun, failure)

    def _configure(self):
        denied = json.dumps(["sometimes.test"] if self.denies_sometimes else [])
        text = CONFIG.format(directory=self.directory, denied=denied)
        (self.directory / "config.toml").write_text(text)

    def _worker(self):
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            except OSError:
                continue
            if int(parent) == self.process.pid and words[-1] == b"work":
                return int(entry.name)
        return None

    def _read_log(self):
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                self.levels["not JSON"] += 1
                self.warnings[line.decode(errors="replace").strip()] += 1
                continue
            fields = entry.get("fields", {})
            message = fields.get("message", "")
            self.levels[entry.get("level")] += 1
            if message == "listening":
                self.addresses[fields["listener"]] = fields["address"]
            elif message == "ready":
                self.ready.set()
            if "log lines were lost" in message:
                self.lost += int(message.split()[0])
            if entry.get("level") in ("ERROR", "WARN") and "POLICY_VIOLATION" not in message:
                self.warnings[message] += 1
