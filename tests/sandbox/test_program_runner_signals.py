"""What the runner notes of a program: what it reached for without a reason, and nothing of honest work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk.piped import running

HONEST = """
import collections, concurrent.futures, contextlib, copy, dataclasses, functools, heapq, io, itertools, json, logging
import math, multiprocessing.pool, os, pathlib, platform, random, statistics, string, subprocess, tempfile, threading
import time, typing, uuid, warnings

import numpy as np
import numpy.fft
import numpy.polynomial


def solve():
    rng = np.random.default_rng(3)
    a = rng.normal(size=(30, 30))
    np.linalg.svd(a), np.linalg.solve(a, a[0]), np.fft.fft(a), a.ctypes.data
    np.polynomial.Polynomial.fit(a[0], a[1], 2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sum(pool.map(abs, range(9)))
    with multiprocessing.pool.ThreadPool(2) as pool:
        pool.map(abs, range(9))
    with tempfile.TemporaryDirectory() as folder:
        np.save(folder + "/a.npy", a)
        pathlib.Path(folder, "b.txt").write_text("b")
        pathlib.Path(folder, "c", "d").mkdir(parents=True)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        print("x")
    with open(os.__file__) as source:
        source.read(10)
    os.environ.get("OMP_NUM_THREADS"), os.getenv("TOKENIZERS_PARALLELISM"), dict(os.environ), "HOME" in os.environ
    warnings.warn("slow")
    logging.warning("slow")
    uuid.uuid4(), time.time(), platform.system(), os.cpu_count()
    import asyncio
    asyncio.run(asyncio.sleep(0))
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("no")
    return "done"
"""


def test_honest_work_with_numbers_files_of_its_own_and_threads_is_not_noted(tmp_path: Path) -> None:
    with running(tmp_path, HONEST, environment={"TMPDIR": "/tmp"}) as program:
        assert program.call("solve") == "done"
        assert program.signals() == []


@pytest.mark.parametrize(
    ("source", "noted"),
    [
        ("import os\nos.environ.get('OPENAI_API_KEY')", ["environment:OPENAI_API_KEY"]),
        ("import os\nos.getenv('github_token'), 'DB_PASSWORD' in os.environ",
         ["environment:github_token", "environment:DB_PASSWORD"]),
        ("from os import environ, environb\nenvironb.get(b'AWS_SECRET')", ["environment:AWS_SECRET"]),
        ("open('/proc/self/environ').read()", ["environment:/proc/self/environ"]),
        ("open('/notes', 'w')", ["write:/notes"]),
        ("import os\nos.open('/tmp/../notes', os.O_RDWR)", ["write:/notes"]),
        ("open('/tmp/not-my-folder/evaluator.py', 'a')", ["write:/tmp/not-my-folder/evaluator.py"]),
        ("import os\nos.open(b'/tmpfoo', os.O_CREAT)", ["write:/tmpfoo"]),
        ("import os\nos.rename('/tmp/no', '/no')", ["write:/no"]),
        ("import shutil\nshutil.rmtree('/nowhere/x')", []),
        ("import os\nos.remove('/no')", ["write:/no"]),
        ("import subprocess\nsubprocess.run(['/no'])", ["process"]),
        ("import os\nos.system('')", ["process"]),
        ("import os\nos.fork() or os._exit(0)", ["process"]),
        ("import os\nos.execv('/no', ['no'])", ["process"]),
        ("import os\nos.posix_spawn('/no', ['no'], {})", ["process"]),
        ("import os\nos.kill(os.getppid(), 0)", ["process"]),
        ("import socket\nsocket.socket()", ["socket"]),
        ("import socket\nsocket.getaddrinfo('localhost', 1)", ["socket"]),
        ("import socket\nsocket.socket(socket.AF_UNIX).connect('/no')", ["socket"]),
        ("import ctypes\nctypes.CDLL(None)", ["ctypes"]),
        ("import ctypes\nctypes.string_at(id(1), 1)", ["ctypes"]),
    ],
)  # fmt: skip  # one case a row
def test_what_a_program_reaches_for_is_noted_whether_it_gets_it_or_not(
    source: str, noted: list[str], tmp_path: Path
) -> None:
    with running(tmp_path, source) as program:
        program.item(get="x")
        assert program.signals() == noted


def test_the_list_is_bounded_and_so_is_each_word(tmp_path: Path) -> None:
    source = (
        "import os\nfor n in range(999):\n    os.environ.get('KEY' + 'x' * 999 + str(n)), os.environ.get(f'KEY{n}')"
    )
    with running(tmp_path, source) as program:
        program.item(get="x")
        words = program.signals()
        assert len(words) == 64
        assert max(map(len, words)) == 200
