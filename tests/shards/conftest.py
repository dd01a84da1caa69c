"""An S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import boto3
import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def s3() -> Iterator[Mapping[str, str]]:
    """Storage options of a server on loopback with the bucket `bucket`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1").create_bucket(
        Bucket="bucket"
    )
    yield {"key": "k", "secret": "s", "endpoint_url": url}
    server.stop()
