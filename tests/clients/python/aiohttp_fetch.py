"""Requests URL through PROXY (if any) with aiohttp: HTTP proxies as aiohttp reads them
from the environment, SOCKS5 by aiohttp-socks."""

import asyncio
import os
import ssl
import sys

import aiohttp
from aiohttp_socks import ProxyConnector


async def main(url, proxy, method="GET"):
    trust = ssl.create_default_context()
    if proxy.startswith("socks5h:"):
        # It has a switch, and no scheme, for names that the proxy resolves.
        connector = ProxyConnector.from_url(
            proxy.replace("socks5h:", "socks5:"), rdns=True, ssl=trust
        )
    else:
        os.environ["HTTP_PROXY"] = os.environ["HTTPS_PROXY"] = proxy
        connector = aiohttp.TCPConnector(ssl=trust)
    async with aiohttp.ClientSession(connector=connector, trust_env=True) as session:
        async with session.request(method, url, raise_for_status=True) as response:
            sys.stdout.write(await response.text())


asyncio.run(main(*sys.argv[1:]))
