"""Requests URL through PROXY (if any) with httpx, by the environment; over HTTP/2
if --http2 is given and the other side supports it."""

import argparse
import os
import sys

import httpx

parser = argparse.ArgumentParser()
parser.add_argument("--http2", action="store_true")
parser.add_argument("--upload", type=int, default=0, help="bytes of content")
parser.add_argument("url")
parser.add_argument("proxy")
parser.add_argument("method", nargs="?", default="GET")
given = parser.parse_args()
if given.proxy:
    os.environ["ALL_PROXY"] = given.proxy
with httpx.Client(http2=given.http2, timeout=60) as client:
    response = client.request(given.method, given.url, content=bytes(given.upload))
response.raise_for_status()
sys.stdout.write(response.text)
