"""Run a subject sealed, bring its observations back, and stop it with proof.

Never accepts a tier weaker than the one asked for, and never says stopped without having looked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from keyturn.sandbox.port import Backend


def open_backend(run_root: Path, *, runtime_cache: Path) -> Backend:
    """The sandbox of this machine, keeping its run folders below `run_root`; nothing is started yet.

    One governor at a time per `run_root`: its path names our cgroup, and `sweep` kills what lives there.
    `runtime_cache` is a file where the digests of runtimes are kept.
    """
    from keyturn.sandbox.bubblewrap import Bubblewrap

    return Bubblewrap(run_root, runtime_cache=runtime_cache)
