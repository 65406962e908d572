"""Requests URL through PROXY (if any) with the standard library, by the environment."""

import os
import sys
import urllib.request

url, proxy, *method = sys.argv[1:]
if proxy:
    os.environ["http_proxy"] = os.environ["https_proxy"] = proxy
request = urllib.request.Request(url, method=(method or ["GET"])[0])
with urllib.request.urlopen(request, timeout=60) as response:
    sys.stdout.write(response.read().decode())
