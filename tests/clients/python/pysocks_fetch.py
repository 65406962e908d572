"""Fetches URL with the standard library over a socket of PySocks, which speaks
SOCKS5 or makes an HTTP tunnel to PROXY (if any)."""

import http.client
import ssl
import sys
from urllib.parse import urlsplit

import socks

url, proxy = map(urlsplit, sys.argv[1:])
stream = socks.socksocket()
if proxy.hostname:
    kind = socks.SOCKS5 if proxy.scheme == "socks5h" else socks.HTTP
    stream.set_proxy(kind, proxy.hostname, proxy.port, rdns=True)
stream.connect((url.hostname, url.port))
if url.scheme == "https":
    stream = ssl.create_default_context().wrap_socket(stream, server_hostname=url.hostname)
connection = http.client.HTTPConnection(url.hostname, url.port)
connection.sock = stream
connection.request("GET", url.path)
response = connection.getresponse()
if response.status != 200:
    sys.exit(f"{response.status} {response.reason}")
sys.stdout.write(response.read().decode())
