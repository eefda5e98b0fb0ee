"""Where the log lies is said in one small file: every mistake is named by its line, and no password stands in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.app.operating import operation
from keyturn.app.operating.opening import open_any, open_place
from keyturn.app.operating.operation import Operation, OperationProblems
from keyturn.cli.main import main
from keyturn.core.errors import MalformedInput
from keyturn.ledger.places.folder import Folder

STORE = "postgresql://keyturn@db.example/connect4"


def write(root: Path, text: str) -> Path:
    (root / "operation.toml").write_text(text, encoding="utf-8")
    return root


def test_without_the_file_everything_is_as_it_comes(tmp_path: Path) -> None:
    assert operation.read(tmp_path) == Operation() == operation.read(write(tmp_path, ""))
    assert operation.read(write(tmp_path, "[log]\n")) == Operation()


def test_one_line_names_a_database(tmp_path: Path) -> None:
    assert operation.read(write(tmp_path, f'[log]\nstore = "{STORE}"\n')) == Operation(store=STORE)


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    text = f"""
        [log]
        store = "{STORE}?sslmode=verify-full&passfile=/etc/keyturn/pgpass"
        tiles = "s3://bucket/prefix"
        endpoint = "https://objects.example:9000"
        takeover_seconds = 30
    """
    read = operation.read(write(tmp_path, text))
    assert (read.tiles, read.endpoint, read.takeover_seconds) == (
        "s3://bucket/prefix",
        "https://objects.example:9000",
        30,
    )
    for local in ("postgresql:///log?host=/run/postgresql", "postgresql://u@/log?host=/x", "postgresql://?service=log"):
        assert operation.read(write(tmp_path, f'[log]\nstore = "{local}"\n')).store == local


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('stroe = "x"', "log.stroe: `stroe` is not a key of this table"),
        ('store = "mysql://u@h/d"', "log.store: `store` is `mysql:…`; an address like"),
        ('store = "host=h dbname=d"', "log.store: `store` is `:…`; an address like"),
        ("store = 3", "log.store: `store` is `3`; an address like"),
        ('store = "postgresql://u@h"', "log.store: `store` names no database"),
        ('store = "postgresql://u:secret@h/d"', "log.store: `store` holds a password; none may stand in this file"),
        ('store = "postgresql://u@h/d?password=secret"', "log.store: `store` holds a password"),
        ('store = "postgresql://[h/d"', "log.store: `store` is"),
        ('store = "postgresql://u@h/d\\u0007"', "log.store: `store` is"),
        ('tiles = ""', "log.tiles: `tiles` is ``; a bucket or a folder is expected"),
        ('tiles = "s3:///prefix"', "log.tiles: `tiles` is `s3:///prefix`; a bucket or a folder is expected"),
        ('tiles = "ftp://h/x"', "log.tiles: `tiles` is of the kind `ftp:`"),
        ('endpoint = "objects.example"', "log.endpoint: `endpoint` is"),
        ('endpoint = "https://key:secret@h"', "log.endpoint: `endpoint` is"),
        ("takeover_seconds = 1", "log.takeover_seconds: `takeover_seconds` is `1`; a whole number from 2 to 600"),
        ("takeover_seconds = true", "log.takeover_seconds: `takeover_seconds` is `True`"),
    ],
)
def test_a_mistake_is_named_by_its_line_and_no_secret_is_shown(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(OperationProblems) as caught:
        operation.read(write(tmp_path, f"# where things lie\n[log]\n{line}\n"))
    assert caught.value.message.startswith(f"operation.toml:3: {message}")
    assert caught.value.help
    assert "secret" not in str(caught.value) + caught.value.help


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(OperationProblems) as caught:
        operation.read(write(tmp_path, '[log]\nstore = 1\ntiles = ""\n[more]\nx = 1\n'))
    assert [(line, problem.path) for line, problem in caught.value.rows] == [
        (4, "more"),
        (2, "log.store"),
        (3, "log.tiles"),
    ]
    with pytest.raises(MalformedInput, match=r"operation\.toml: invalid value"):
        operation.read(write(tmp_path, "log = [\n"))
    with pytest.raises(OperationProblems, match="`log` is no table"):
        operation.read(write(tmp_path, "log = 3\n"))


def test_a_project_with_a_mistake_in_the_file_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".keyturn").mkdir()
    (tmp_path / ".keyturn" / "log.db").write_bytes(b"")
    write(tmp_path, '[log]\nstore = "postgresql://ada:secret@h/d"\n')
    assert main(["status", "--project", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "error: operation.toml, line 2: log.store: `store` holds a password" in said
    assert "secret" not in said
    with pytest.raises(MalformedInput, match="holds a password"):
        open_any("postgresql://ada:secret@h/d")


def test_static_files_lie_where_it_is_asked_for_or_where_the_file_says(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="it is not said where the static files lie"):
        open_place(tmp_path, None, create=True)
    write(tmp_path, '[log]\ntiles = "pub"\n')
    assert open_place(tmp_path, None, create=True) == Folder(tmp_path / "pub")
    assert open_place(tmp_path, "elsewhere", create=True) == Folder(Path("elsewhere"))
    with pytest.raises(MalformedInput, match="there is no folder"):
        open_place(tmp_path, None, create=False)


IMAGE = "images.example/python@sha256:" + "ab" * 32


def test_one_table_names_the_engine_that_keeps_the_sandboxes(tmp_path: Path) -> None:
    from keyturn.sandbox.engines.choice import Choice

    text = f'[sandbox]\nengine = "docker"\nimage = "{IMAGE}"\nruntime = "runsc"\nsocket = "/run/docker.sock"\n'
    chosen = operation.read(write(tmp_path, text)).sandbox
    assert chosen == Choice("docker", IMAGE, runtime="runsc", socket="/run/docker.sock")
    text = f'[sandbox]\nengine = "kubernetes"\nimage = "{IMAGE}"\nruntime_class = "gvisor"\nnamespace = "trials"\n'
    assert operation.read(write(tmp_path, text)).sandbox.runtime_class == "gvisor"
    assert operation.read(write(tmp_path, '[sandbox]\nengine = "bubblewrap"\n')).sandbox == Choice()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('engine = "podman"', "2: sandbox.engine: `engine` is `podman`; one of bubblewrap, docker, kubernetes"),
        ('engine = "docker"', "2: sandbox.engine: `docker` needs an `image`"),
        ('image = "python:3.12"', "2: sandbox.image: the image `python:3.12` is not named by its digest"),
        (f'image = "{IMAGE}"', "2: sandbox.image: `image` says nothing to the engine `bubblewrap`"),
        ('socket = "tcp://build:2375"', "2: sandbox.socket: `socket` is `tcp://build:2375`; an absolute path"),
        (f'engine = "docker"\nimage = "{IMAGE}"\ncontext = "lab"', "4: sandbox.context: `context` says nothing to"),
        ('privileged = "yes"', "2: sandbox.privileged: `privileged` is not a key of this table"),
    ],
)
def test_a_choice_that_will_not_do_is_named_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OperationProblems) as caught:
        operation.read(write(tmp_path, f"[sandbox]\n{text}\n"))
    assert caught.value.message.startswith(f"operation.toml:{message}")
    assert caught.value.help
