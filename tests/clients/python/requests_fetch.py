"""Requests URL through PROXY (if any) with requests, by the environment."""

import os
import sys

import requests

url, proxy, *method = sys.argv[1:]
if proxy:
    os.environ["ALL_PROXY"] = proxy
response = requests.request(*(method or ["GET"]), url, timeout=60)
response.raise_for_status()
sys.stdout.write(response.text)
