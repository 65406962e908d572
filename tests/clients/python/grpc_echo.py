"""Calls gRPC through PROXY (see grpc_server.py), and prints what came of each kind of call, with its
trailers.
"""

import threading

import grpc

from grpc_server import serve_and_call

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


serve_and_call(HANDLERS, call)
