"""For scripts with the arguments PROXY and DIRECTORY: serves gRPC at a free port and calls it through
PROXY, both with the grpcio of PyPI.

DIRECTORY has `server.pem` and `server.key`. Trust is the environment's.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

HOST = "allowed.test"


def serve_and_call(handlers, call, options=None):
    """Serves the methods of `test.Echo`, and hands `call` a channel to them."""
    proxy, directory = sys.argv[1:]
    os.environ["grpc_proxy"] = os.environ["https_proxy"] = proxy
    pem = [open(os.path.join(directory, name), "rb").read() for name in ("server.key", "server.pem")]
    server = grpc.server(ThreadPoolExecutor(), options=options)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pem]))
    server.start()
    try:
        credentials = grpc.ssl_channel_credentials()
        with grpc.secure_channel(f"{HOST}:{port}", credentials, options) as channel:
            call(channel)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    finally:
        server.stop(None).wait()
