"""Puts an object to S3 at URL by boto3, with content that is sent in aws-chunked coding with a checksum
after it, or with "get" as the second argument, reads it. Proxy and trust are the environment's."""

import io
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


class Unseekable(io.RawIOBase):
    """Content whose checksum can only be known when it has been sent."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self.data.read(size)


url, what = sys.argv[1:]
client = boto3.client(
    "s3",
    endpoint_url=url,
    region_name="test",
    aws_access_key_id="id",
    aws_secret_access_key="secret",
    config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
)
try:
    if what == "get":
        print(client.get_object(Bucket="bucket", Key="key")["Body"].read().decode(), end="")
    else:
        body = Unseekable(b"x" * 300_000)
        client.put_object(Bucket="bucket", Key="key", Body=body, ContentLength=300_000)
        print("put")
except ClientError as error:
    sys.exit(str(error))
