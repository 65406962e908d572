"""Fetches URL through PROXY (if any) with httpx, told by the environment."""

import os
import sys

import httpx

url, proxy = sys.argv[1:]
if proxy:
    os.environ["ALL_PROXY"] = proxy
response = httpx.get(url, timeout=60)
response.raise_for_status()
sys.stdout.write(response.text)
