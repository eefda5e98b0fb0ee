"""The attack: a bundle of one GiB, so that a node that looks at it dies. No more is read than a bundle may have."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.flow.permit import pack
from keyturn.verify import bundle as bundles
from keyturn.verify import trust as trusts
from tests.verify.test_distribution import node

__all__ = ["node"]

GIB = 1 << 30
ENOUGH = 200 << 20
"""Bytes of memory in which a command of ours must answer; a fifth of the bundle."""


@pytest.fixture
def huge(scene, tmp_path):
    """An honest bundle with a hole of a GiB behind it: little on the disk, and all of it there for whoever reads."""
    trusts.write(scene.trust, tmp_path / "trust.json")
    path = tmp_path / "huge.permit"
    path.write_bytes(pack(scene.honest))
    os.truncate(path, GIB)
    return path


def confined():
    """Run before a command: no more than `ENOUGH` of data, so that whoever reads the whole file dies of it."""
    resource.setrlimit(resource.RLIMIT_DATA, (ENOUGH, ENOUGH))


def ran(*words):
    """The exit code, what was said, and the most memory that it held, in bytes."""
    script = (
        "import resource, runpy, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n"
        "print(done.stdout + done.stderr)\n"
    )
    command = [sys.executable, "-c", script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=confined)
    first, _, said = done.stdout.partition("\n")
    code, held = first.split()
    return int(code), " ".join(said.split()), int(held)


def test_the_measure_sees_who_reads_it_all(huge):
    """The control: a reader without a bound does not survive this."""
    code, said, _ = ran(sys.executable, "-c", f"open({str(huge)!r}, 'rb').read()")
    assert code != 0
    assert "MemoryError" in said


@pytest.mark.parametrize("verb", [("verify", "permit"), ("permit", "explode")])
def test_our_commands_refuse_it_and_hold_little(huge, verb):
    words = [
        *verb,
        huge,
        *([huge.with_name("out")] if "explode" in verb else []),
        "--trust",
        huge.with_name("trust.json"),
    ]
    code, said, held = ran(sys.executable, "-m", "keyturn", *words)
    assert code in (2, 3)
    assert "1000000 bytes" in said
    assert held < ENOUGH


def test_the_small_verifier_refuses_it_and_holds_little(huge, node):
    code, said, held = ran(node / "venv/bin/keyturn-verify", huge, "--trust", huge.with_name("trust.json"))
    assert (code, "1000000 bytes" in said) == (2, True)
    assert held < ENOUGH


def test_one_byte_too_many_is_too_many():
    with pytest.raises(MalformedInput, match="more than 1000000 bytes"):
        bundles.decode(b" " * (bundles.BUNDLE_BYTES_MAX + 1))
