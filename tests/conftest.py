"""What every test may ask for: where the repository lies, and the vectors that lie beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.buckets import CREDENTIALS, Buckets
from tests.servers.cluster import Cluster

STATE = "XDG_STATE_HOME"
"""Where the containment check keeps its result."""

KEPT = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """One folder for the whole run, so that the containment suite runs once at most, and never for the user's own."""
    config.stash[KEPT] = os.environ[STATE] = tempfile.mkdtemp(prefix="keyturn-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it; the variable stays, for a thread that is left must not take to the user's own folder now."""
    shutil.rmtree(config.stash[KEPT], ignore_errors=True)


REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """The folder of vectors shared by several repositories; where it is absent the test counts as not run.

    Under CI its absence is a failure, because a suite that quietly shrinks proves nothing.
    """
    place = REPO.parent / "shared" / "vectors"
    if not place.is_dir():
        reason = f"not run: no shared vectors at `{place}`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return place


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this test run's own."""
    made = Cluster.made()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def buckets() -> Iterator[Buckets]:
    """A server of the S3 protocol of this test run's own, with credentials that boto3 finds for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        started = Buckets.started()
        yield started
        started.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a log may be made, once for each kind of store; `tests.servers.logs` opens it."""
    if request.param == "sqlite":
        return str(tmp_path / "log.db")
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.database()
