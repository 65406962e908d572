"""Fetches URL through PROXY (if any) with requests, told by the environment."""

import os
import sys

import requests

url, proxy = sys.argv[1:]
if proxy:
    os.environ["ALL_PROXY"] = proxy
response = requests.get(url, timeout=60)
response.raise_for_status()
sys.stdout.write(response.text)
