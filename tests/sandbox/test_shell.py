"""The runtime with a shell, and the agent that runs commands in it; Inspect's suite in tests/judges asks the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from keyturn.adapters.inspect.living import Living
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.command import ALONE
from keyturn.sandbox.port import Mount, Spec
from tests.sandbox.conftest import LIMITS

ORDER = {"do": "execute", "folder": ".", "seconds": 20, "input": False, "bytes_max": 10000}
ENVIRONMENT = {"PATH": "/runtime/bin:/usr/bin:/bin"}


@pytest.fixture
def started(backend: Bubblewrap) -> Iterator[Callable[..., Living]]:
    opened: list[Living] = []

    def start(**changes: bool) -> Living:
        argv = ("python", "-I", "-S", "/agent.py", "/tmp/work")
        spec = Spec("answer", argv, backend.runtime("shell"), (Mount(ALONE / "commands.py", "/agent.py"),))
        parked = backend.prepare(replace(spec, limits=LIMITS, **changes))
        attestation = parked.attest()
        assert attestation.problems == ()
        assert attestation.facts.get("executable", False) is changes.get("executable", False)
        opened.append(Living(parked.go(), spec.lease_seconds))
        opened[-1].wait_ready()
        return opened[-1]

    yield start
    assert [living.close("test").state for living in opened] == ["STOPPED"] * len(opened)


def ran(living: Living, *command: str) -> tuple[object, str]:
    call = living.start({**ORDER, "command": [*command], "environment": ENVIRONMENT}, None, 10000)
    answer = living.answer(call)
    return answer.get("code", answer.get("errno")), (call.streams[1] + call.streams[2]).decode()


def test_a_shell_finds_its_programs_where_scripts_expect_them(started: Callable[..., Living]) -> None:
    living = started()
    assert ran(living, "/bin/sh", "-c", "echo $((6*7)) | /usr/bin/env tr 4 5") == (0, "52\n")
    assert ran(living, "python", "-c", "import json, ssl; print(json.dumps([1]))") == (0, "[1]\n")
    assert "perl" not in ran(living, "ls", "/usr/bin")[1].split()


@pytest.mark.parametrize(("executable", "told"), [(True, (0, "ran\n")), (False, (13, ""))])
def test_what_was_written_runs_by_its_path_only_where_the_spec_says_so(
    started: Callable[..., Living], executable: bool, told: tuple[int, str]
) -> None:
    living = started(executable=executable)
    made = "printf '#!/bin/sh\\necho ran\\n' > script; chmod +x script"
    assert ran(living, "sh", "-c", made) == (0, "")
    assert ran(living, "./script") == told
    assert ran(living, "sh", "script") == (0, "ran\n")


def test_the_digest_of_the_runtime_covers_every_program(backend: Bubblewrap) -> None:
    shell, plain = backend.runtime("shell"), backend.runtime("python")
    assert shell.digest == backend.runtime("shell").digest != plain.digest
    programs = [bind for bind in shell.binds if bind.target.startswith("/usr/bin/")]
    assert len(programs) > 40
    assert all(bind.source.is_file() and not bind.source.is_symlink() for bind in programs)
