"""A server of the S3 protocol on the loopback, started and ended by a test run: moto's standalone server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

START_SECONDS = 30


@dataclass
class Buckets:
    """The server and its address."""

    process: subprocess.Popen[bytes]
    endpoint: str
    made: int = 0

    @classmethod
    def started(cls) -> Buckets:
        """Start it and wait until it takes connections."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, env=os.environ | CREDENTIALS)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and child.poll() is None:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    return cls(child, f"http://127.0.0.1:{port}")
            time.sleep(0.05)
        child.kill()
        child.wait()
        raise RuntimeError("moto's server did not start")

    def client(self) -> Any:
        """A client of the test's own."""
        import boto3

        return boto3.session.Session().client("s3", endpoint_url=self.endpoint)

    def bucket(self) -> str:
        """The name of a new and empty bucket."""
        self.made += 1
        self.client().create_bucket(Bucket=f"log-{self.made}")
        return f"log-{self.made}"

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(timeout=10)


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What boto3 finds by its own ways: none of it is ever ours to hold."""
