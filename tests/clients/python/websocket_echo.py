"""Serves WebSocket at a free port and talks to it through PROXY, both with the
`websockets` of PyPI, with permessage-deflate.

It is wss, and DIRECTORY has `server.pem` and `server.key`; with --plain it is ws. The
client takes the proxy from its environment, as it does by itself, and makes a tunnel;
with --forward it asks the proxy for the URL, as RFC 9110 has it for plain HTTP.
What the client brought home is printed.
"""

import argparse
import asyncio
import os
import socket
import ssl
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.extensions.permessage_deflate import PerMessageDeflate

HOST = "allowed.test"
# Longer than every buffer on its way.
INCOMPRESSIBLE = os.urandom(1_000_000)
LONG = "brought home " * 100_000


async def echo(connection):
    async for message in connection:
        await connection.send(message)


class Forwarded(ClientConnection):
    """A client that writes the whole URL into its request, for the proxy to read."""

    async def handshake(self, *given, **named):
        make = self.protocol.connect

        def connect():
            request = make()
            request.path = f"http://{request.headers['Host']}{request.path}"
            return request

        self.protocol.connect = connect
        await super().handshake(*given, **named)


async def talk(given, port):
    proxy = urlsplit(given.proxy)
    options = {"open_timeout": 60, "max_size": None}
    url = f"ws://{HOST}:{port}/echo"
    if not given.plain:
        options["ssl"] = ssl.create_default_context()
        url = f"wss://{HOST}:{port}/echo"
    if given.forward:
        options["proxy"] = None
        options["sock"] = socket.create_connection((proxy.hostname, proxy.port))
        options["create_connection"] = Forwarded
    else:
        os.environ["http_proxy"] = os.environ["https_proxy"] = given.proxy
    async with connect(url, **options) as connection:
        (extension,) = connection.protocol.extensions
        assert isinstance(extension, PerMessageDeflate), extension
        for message in ["brought home", INCOMPRESSIBLE, LONG, ""]:
            await connection.send(message)
            assert await connection.recv() == message, len(message)
        await (await connection.ping())
        await connection.close(4000, "enough")
        print("brought home", connection.close_code, connection.close_reason)


async def main(given):
    tls = None
    if not given.plain:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(
            os.path.join(given.directory, "server.pem"),
            os.path.join(given.directory, "server.key"),
        )
    async with serve(echo, "127.0.0.1", 0, ssl=tls, max_size=None) as server:
        await talk(given, server.sockets[0].getsockname()[1])


parser = argparse.ArgumentParser()
parser.add_argument("--forward", action="store_true")
parser.add_argument("--plain", action="store_true")
parser.add_argument("proxy")
parser.add_argument("directory")
asyncio.run(main(parser.parse_args()))
