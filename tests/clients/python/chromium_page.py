"""Serves a page at a free port over TLS, shows it to a headless Chromium behind PROXY, and prints what
the page says in the end: forty fetches at once, server-sent events, a WebSocket.

DIRECTORY has `server.pem` and `server.key`.
"""

import asyncio
import ssl
import sys
import tempfile

from aiohttp import WSMsgType, web

HOST = "allowed.test"
PAGE = """<!doctype html><title>test</title><script>
async function fetches() {
  const all = Array.from({ length: 40 }, async (_, number) => {
    const answer = await fetch('/number/' + number);
    return (await answer.text()) == number ? 1 : 0;
  });
  return (await Promise.all(all)).reduce((sum, one) => sum + one, 0);
}
function events() {
  return new Promise(resolve => {
    const source = new EventSource('/events');
    let seen = 0;
    source.onmessage = () => { if (++seen == 3) { source.close(); resolve(seen); } };
    source.onerror = () => resolve('error');
  });
}
function socket() {
  return new Promise(resolve => {
    const socket = new WebSocket('wss://' + location.host + '/socket');
    socket.onopen = () => socket.send('echo');
    socket.onmessage = message => { socket.close(); resolve(message.data); };
    socket.onerror = () => resolve('error');
  });
}
async function all() {
  const seen = [await fetches(), await events(), await socket()];
  await fetch('/done?' + seen.join('+'));
}
all().catch(error => fetch('/done?' + encodeURIComponent(error)));
</script>"""


async def page(request):
    return web.Response(text=PAGE, content_type="text/html")


async def number(request):
    return web.Response(text=request.match_info["number"])


async def events(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(3):
        await response.write(b"data: %d\n\n" % number)
        await asyncio.sleep(0.1)
    await asyncio.sleep(3600)


async def socket(request):
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        if message.type == WSMsgType.TEXT:
            await response.send_str(message.data)
    return response


async def main(proxy, directory):
    done = asyncio.get_running_loop().create_future()

    async def finish(request):
        if not done.done():
            done.set_result(request.query_string)
        return web.Response()

    app = web.Application()
    app.add_routes([
        web.get("/", page),
        web.get("/number/{number}", number),
        web.get("/events", events),
        web.get("/socket", socket),
        web.get("/done", finish),
    ])
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory + "/server.pem", directory + "/server.key")
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = await asyncio.create_subprocess_exec(
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            # It trusts a store of its own, which the test does not fill.
            "--ignore-certificate-errors",
            f"--user-data-dir={profile}", f"--proxy-server={proxy}",
            f"https://{HOST}:{port}/",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            print(await asyncio.wait_for(done, 90))
        finally:
            browser.kill()
            await browser.wait()


asyncio.run(main(*sys.argv[1:]))
