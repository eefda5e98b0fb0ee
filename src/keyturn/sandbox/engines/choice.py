"""Which engine keeps the sandboxes, as the operator names it; without a word it is bubblewrap, which needs none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keyturn.sandbox.engines.backend import Contained
from keyturn.sandbox.engines.docker import Docker
from keyturn.sandbox.engines.kubernetes import Kubernetes
from keyturn.sandbox.engines.port import Engine

KEYS = {"docker": ("image", "runtime", "socket"), "kubernetes": ("image", "runtime_class", "namespace", "context")}
"""What may be said of each engine; `image` must be."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and its image; `runtime` and `socket` are docker's, the last three a cluster's. Empty: as it comes."""

    engine: str = "bubblewrap"
    image: str = ""
    runtime: str = ""
    socket: str = ""
    runtime_class: str = ""
    namespace: str = ""
    context: str = ""


BUBBLEWRAP = Choice()


def open_contained(choice: Choice, run_root: Path) -> Contained:
    """The backend over the chosen engine, which nobody has asked anything yet.

    Raises `Unavailable` without the engine's client, `MalformedInput` for an image that is not named by its digest.
    """
    engine: Engine
    if choice.engine == "docker":
        engine = Docker(choice.image, runtime=choice.runtime, address=choice.socket)
    else:
        engine = Kubernetes(
            choice.image, runtime_class=choice.runtime_class, namespace=choice.namespace, context=choice.context
        )
    return Contained(run_root, engine)
