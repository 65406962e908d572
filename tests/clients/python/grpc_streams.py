"""Calls gRPC through PROXY (see grpc_server.py): unread streams beside calls that are answered,
a cancellation, a deadline, and messages of 8 MiB.
"""

import threading

import grpc

from grpc_server import serve_and_call

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


serve_and_call(HANDLERS, call, OPTIONS)
