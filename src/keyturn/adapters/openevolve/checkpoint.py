"""Go on from what OpenEvolve saved, without what was not admitted in this step.

A saved population is a folder that anybody could have written, and a crash may have kept a verdict from the log. What
the governor does not know stays out, but for the best, which is judged anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from keyturn.core.errors import MalformedInput
from keyturn.sdk.run import Run, digest_of

Again = Callable[[str], Awaitable[object]]
"""Evaluates a program's text by the way that every program goes."""


async def sifted(saved: Path, to: Path, run: Run, again: Again) -> tuple[Path | None, int]:
    """A copy of a saved population that holds admitted programs only, and how many were left out; none if none is left.

    Raises `MalformedInput` where there is no saved population.
    """
    if not (saved / "metadata.json").is_file() or not (saved / "programs").is_dir():
        raise MalformedInput(f"`{saved}` holds no saved population", help="name a folder `checkpoints/checkpoint_N`")
    shutil.copytree(saved, to)
    best = _read(to / "metadata.json").get("best_program_id")
    left_out = kept = 0
    for file, text in _programs(to):
        if file.stem == best and run.verdict(digest_of(text)) is None:
            await again(text)
        verdict = run.verdict(digest_of(text))
        if run.shadow or (verdict is not None and verdict.admitted):
            kept += 1
        else:
            left_out += 1
            file.unlink()
    return (to if kept else None), left_out


def _programs(folder: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted((folder / "programs").glob("*.json")):
        code = _read(file).get("code")
        if isinstance(code, str):
            yield file, code
        else:
            file.unlink()


def _read(file: Path) -> dict[str, Any]:
    try:
        body = json.loads(file.read_bytes())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
