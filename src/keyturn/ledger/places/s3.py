"""A bucket of an S3-compatible store: each object written once, the checkpoint replaced only as it was read.

The names of the credentials and where they lie is boto3's business. No lock is held: two that publish write the same
bytes under the same names, and only one of them replaces the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from keyturn.core.errors import Conflict, MalformedInput, TamperDetected, Unavailable
from keyturn.ledger.places.port import Place

TRIES_MAX = 3
TYPE = "application/octet-stream"

_MISSING = {"404", "NoSuchKey", "NotFound"}
_CHANGED = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_UNKNOWN = {"501", "NotImplemented"}


@dataclass(slots=True)
class Bucket(Place):
    """The objects of `bucket` whose keys begin with `prefix`, which is empty or ends with a slash."""

    kind: ClassVar[str] = "bucket"
    client: Any
    bucket: str
    prefix: str
    tags: dict[str, str] = field(default_factory=dict)
    """The tag of each object that may be replaced, as it was when it was read."""

    @classmethod
    def open(cls, address: str, *, endpoint: str = "") -> Bucket:
        """The place that `s3://bucket/prefix` names, at `endpoint` or where boto3 is set up to look."""
        parts = urlsplit(address)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise MalformedInput(f"`{address[:80]}` is no bucket", help="write `s3://bucket/prefix`")
        try:
            import boto3
            from botocore.config import Config
        except ImportError as fault:
            message = "the files lie in a bucket, and the library that speaks with it is not installed"
            raise Unavailable(message, help="`pip install 'keyturn[s3]'`") from fault
        settings = Config(retries={"max_attempts": TRIES_MAX, "mode": "standard"}, connect_timeout=5, read_timeout=30)
        with _told(address, ""):
            client = boto3.session.Session().client("s3", endpoint_url=endpoint or None, config=settings)
        prefix = parts.path.strip("/")
        return cls(client, parts.netloc, f"{prefix}/" if prefix else "")

    @property
    def address(self) -> str:
        """Its address, without the server's."""
        return self._address("")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is held; `replace` notices who came in between."""
        yield

    def names(self) -> Iterator[str]:
        """Every object by its path below the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        with _told(self._address(""), "listed"):
            for page in pages:
                for each in page.get("Contents", ()):
                    yield str(each["Key"]).removeprefix(self.prefix)

    def read(self, name: str) -> bytes | None:
        """The bytes of an object; None where there is none."""
        from botocore.exceptions import ClientError

        with _told(self._address(name), "read"):
            try:
                found = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)
                data = bytes(found["Body"].read())
            except ClientError as fault:
                if _code(fault) in _MISSING:
                    self.tags.pop(name, None)
                    return None
                raise
            self.tags[name] = str(found.get("ETag", ""))
            return data

    def write_once(self, name: str, data: bytes) -> bool:
        """Write an object that never changes; one of the same bytes may be there."""
        held = self.read(name)
        if held is None and self._put(name, data, IfNoneMatch="*"):
            return True
        if (held if held is not None else self.read(name)) != data:
            message = f"`{self._address(name)}` is there with other bytes than the log has"
            raise TamperDetected(message, help="`keyturn log fsck S3URL` says all that differs")
        return False

    def replace(self, name: str, data: bytes) -> bool:
        """Write an object over what was last read of it; without such a reading, only where there is none."""
        seen = self.tags.get(name)
        if self.read(name) == data:
            return False
        if seen is not None and self.tags.get(name) != seen:
            raise _overtaken(self._address(name))
        condition = {"IfMatch": seen} if seen else {"IfNoneMatch": "*"}
        if not self._put(name, data, **condition):
            raise _overtaken(self._address(name))
        self.tags.pop(name, None)
        return True

    def remove(self, name: str) -> None:
        """Remove an object."""
        with _told(self._address(name), "removed"):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def sync(self) -> None:
        """An object is durable when the store says so."""

    def _put(self, name: str, data: bytes, **condition: str) -> bool:
        """Write an object under a condition, and say whether it held."""
        from botocore.exceptions import ClientError

        with _told(self._address(name), "written"):
            try:
                self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + name, Body=data, ContentType=TYPE, **condition
                )
            except ClientError as fault:
                if _code(fault) in _CHANGED:
                    return False
                if _code(fault) in _UNKNOWN and "IfMatch" in condition:
                    return self._put(name, data)  # such a store cannot tell who came in between; the tiles are the same
                raise
        return True

    def _address(self, name: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{name}".rstrip("/")


def _code(fault: Any) -> str:
    return str(fault.response.get("Error", {}).get("Code", ""))


def _overtaken(address: str) -> Conflict:
    return Conflict(f"`{address}` was replaced by somebody else while it was published", help="publish again")


@contextmanager
def _told(address: str, what: str) -> Iterator[None]:
    """What the store refuses, or the network, is `Unavailable`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as fault:
        said = " ".join(str(fault).split())[:300]
        help = "see whether the bucket is there, the endpoint right, and what the credentials that boto3 finds may do"
        raise Unavailable(f"`{address}` cannot be {what or 'opened'}: {said}", help=help) from fault
