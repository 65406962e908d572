"""Serves gRPC at a free port and calls it through PROXY, both with the grpcio of PyPI: streams that
the client leaves unread beside calls that are answered, a cancellation, a deadline, and messages of 8 MiB.

DIRECTORY has `server.pem` and `server.key`. Proxy and trust are the environment's.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

HOST = "allowed.test"
LARGE = 8 * 1024 * 1024
OPTIONS = [
    ("grpc.max_receive_message_length", 2 * LARGE),
    ("grpc.max_send_message_length", 2 * LARGE),
]
# Released when the server learns that a call was cancelled.
ended = threading.Semaphore(0)


def echo(request, context):
    return request


def flood(request, context):
    context.add_callback(ended.release)
    while context.is_active():
        yield b"x" * 1_000_000


def never(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait()
    ended.release()
    return b""


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Flood": grpc.unary_stream_rpc_method_handler(flood),
    "Never": grpc.unary_unary_rpc_method_handler(never),
}


def call(channel):
    echo = channel.unary_unary("/test.Echo/Echo")
    floods = [channel.unary_stream("/test.Echo/Flood")(b"") for _ in range(3)]
    for answers in floods:
        next(answers)
    for _ in range(10):
        echo(b"hello", timeout=60)
    print("answered beside three streams that are not read")

    for answers in floods:
        answers.cancel()
    for _ in floods:
        ended.acquire()
    print("the server learnt of three cancellations")

    try:
        channel.unary_unary("/test.Echo/Never")(b"", timeout=1)
    except grpc.RpcError as error:
        print(error.code().name)
    ended.acquire()
    print("the server learnt of the deadline")

    answer = echo(b"y" * LARGE, timeout=60)
    print("brought back", len(answer))


def main(proxy, directory):
    os.environ["grpc_proxy"] = os.environ["https_proxy"] = proxy
    pem = [open(os.path.join(directory, name), "rb").read() for name in ("server.key", "server.pem")]
    server = grpc.server(ThreadPoolExecutor(), options=OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", HANDLERS)])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pem]))
    server.start()
    try:
        credentials = grpc.ssl_channel_credentials()
        with grpc.secure_channel(f"{HOST}:{port}", credentials, OPTIONS) as channel:
            call(channel)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    finally:
        server.stop(None).wait()


main(*sys.argv[1:])
