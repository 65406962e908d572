"""Serves gRPC at a free port and calls it through PROXY, both with the grpcio of PyPI,
and prints what came of each kind of call, with its trailers.

DIRECTORY has `server.pem` and `server.key`. Proxy and trust are the environment's.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

HOST = "allowed.test"
# More than the windows of HTTP/2 hold.
LONG = b"x" * 1_000_000


def unary(request, context):
    context.set_trailing_metadata([("x-kind", "unary")])
    return request


def download(request, context):
    for _ in range(int(request)):
        yield LONG
    context.set_trailing_metadata([("x-kind", "download")])


def upload(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def both(requests, context):
    for request in requests:
        yield request + b"!"
    context.abort(grpc.StatusCode.OUT_OF_RANGE, "no more")


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Download": grpc.unary_stream_rpc_method_handler(download),
    "Upload": grpc.stream_unary_rpc_method_handler(upload),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}


def call(channel):
    answer, told = channel.unary_unary("/test.Echo/Unary").with_call(b"hello", timeout=60)
    print("unary", answer.decode(), dict(told.trailing_metadata())["x-kind"])

    answers = channel.unary_stream("/test.Echo/Download")(b"5", timeout=60)
    size = sum(len(answer) for answer in answers)
    print("download", size, dict(answers.trailing_metadata())["x-kind"])

    answer = channel.stream_unary("/test.Echo/Upload")(iter([LONG] * 5), timeout=60)
    print("upload", answer.decode())

    # Each message is sent only after the answer to the one before: nothing is held back.
    answered = threading.Semaphore(1)

    def messages():
        for message in [b"one", b"two", b"three"]:
            answered.acquire()
            yield message

    answers = channel.stream_stream("/test.Echo/Both")(messages(), timeout=60)
    try:
        for answer in answers:
            print("both", answer.decode())
            answered.release()
    except grpc.RpcError as error:
        print("both", error.code().name, error.details())


def main(proxy, directory):
    os.environ["grpc_proxy"] = os.environ["https_proxy"] = proxy
    pem = [open(os.path.join(directory, name), "rb").read() for name in ("server.key", "server.pem")]
    server = grpc.server(ThreadPoolExecutor())
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Echo", HANDLERS)]
    )
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pem]))
    server.start()
    try:
        with grpc.secure_channel(f"{HOST}:{port}", grpc.ssl_channel_credentials()) as channel:
            call(channel)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    finally:
        server.stop(None).wait()


main(*sys.argv[1:])
