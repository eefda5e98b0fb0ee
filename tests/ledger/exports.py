"""What the tests of exports share: a project that is only a log, and an archive taken apart and put together again."""

from __future__ import annotations

import io
import tarfile
from contextlib import contextmanager
from pathlib import Path

from keyturn.ledger.export import archive

RECORDED = Path(__file__).parents[2] / "docs" / "recorded" / "connect4.tar"
TRUST = RECORDED.with_suffix(".trust.json")


class Project:
    """As much of a project as an export needs."""

    def __init__(self, log, blobs=None):
        self._log = log
        self.blobs = blobs

    @contextmanager
    def opened(self):
        yield self._log


def quiet(text):
    """Tell nobody."""


def unpacked(data):
    """The files of an archive by name, in order."""
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return {each.name: opened.extractfile(each).read() for each in opened.getmembers()}


def packed(files):
    """An archive in the one spelling that is read."""
    file = io.BytesIO()
    for name, data in files.items():
        archive._put(file, name, data)
    file.write(archive.END)
    return file.getvalue()


def bundle_of(leaves):
    return b"".join(len(each).to_bytes(2, "big") + each for each in leaves)
