"""Run a subject sealed, bring its observations back, and stop it with proof.

Never accepts a tier weaker than the one asked for, and never says stopped without having looked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from keyturn.sandbox.engines.choice import Choice
    from keyturn.sandbox.port import Backend


def open_backend(run_root: Path, *, runtime_cache: Path, choice: Choice | None = None) -> Backend:
    """The sandbox of this machine, with its run folders below `run_root`, or the engine that the operator chose.

    Nothing is started yet. One governor at a time per `run_root`: its path names what is ours, a cgroup or a label,
    and `sweep` kills what lives there. `runtime_cache` is a file where the digests of runtimes are kept.
    """
    if choice is not None and choice.engine != "bubblewrap":
        from keyturn.sandbox.engines.choice import open_contained

        return open_contained(choice, run_root)
    from keyturn.sandbox.bubblewrap import Bubblewrap

    return Bubblewrap(run_root, runtime_cache=runtime_cache)
