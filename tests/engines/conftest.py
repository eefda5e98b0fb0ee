"""Backends over the two fake servers, for the whole room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.sandbox.engines.backend import Contained
from keyturn.sandbox.engines.docker import Docker
from tests.engines.docker_server import DockerServer
from tests.engines.room import IMAGE


@pytest.fixture
def docker_server(tmp_path: Path) -> Iterator[DockerServer]:
    made = DockerServer(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def docker_backend(docker_server: DockerServer, tmp_path: Path) -> Iterator[Contained]:
    made = Contained(tmp_path / "run", Docker(IMAGE, address=docker_server.address))
    yield made
    made.close()
