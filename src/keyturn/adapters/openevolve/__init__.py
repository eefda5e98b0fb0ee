"""OpenEvolve, governed: its programs run sealed, and what enters its population was admitted.

Never patches the package: it goes in through hooks that OpenEvolve offers. What is asked for is loaded then.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost an import
if TYPE_CHECKING:
    from keyturn.adapters.openevolve.run import Governed as Governed
    from keyturn.adapters.openevolve.run import run_evolution as run_evolution


def __getattr__(name: str) -> object:
    """`run_evolution` and its result, which bring OpenEvolve with them."""
    if name not in {"Governed", "run_evolution"}:
        raise AttributeError(f"`keyturn.adapters.openevolve` has no `{name}`; it offers `run_evolution`")
    from keyturn.adapters.openevolve import run

    return getattr(run, name)
