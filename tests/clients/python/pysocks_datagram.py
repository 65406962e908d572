"""Sends TEXT as a datagram to HOST and PORT over a UDP association that PySocks opens
at PROXY (host:port), and writes the answer."""

import sys

import socks

host, port, text, proxy = sys.argv[1:]
proxy_host, proxy_port = proxy.rsplit(":", 1)
stream = socks.socksocket(type=socks.socket.SOCK_DGRAM)
stream.set_proxy(socks.SOCKS5, proxy_host, int(proxy_port), rdns=True)
stream.settimeout(5)
stream.sendto(text.encode(), (host, int(port)))
answer, _ = stream.recvfrom(2048)
sys.stdout.write(answer.decode())
