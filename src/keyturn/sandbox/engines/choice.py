"""Which engine keeps the sandboxes, as the operator names it; without a word it is bubblewrap, which needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from keyturn.sandbox.engines.backend import Contained
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


def require_digest(image: str) -> Digest:
    """The digest by which an image is named; raises `MalformedInput` for one that is named by a tag alone."""
    _, _, digest = image.partition("@")
    known = digest.startswith("sha256:") and len(digest) == 71 and set(digest[7:]) <= set("0123456789abcdef")
    if not known:
        help = 'write image = "registry/name@sha256:…": a tag may mean something else tomorrow'
        raise MalformedInput(f"the image `{image:.120}` is not named by its digest", help=help)
    return Digest(digest)


def open_contained(choice: Choice, run_root: Path) -> Contained:
    """The backend over the chosen engine, which nobody has asked anything yet.

    Raises `Unavailable` without the engine's client, `MalformedInput` for an image that is not named by its digest.
    """
    from keyturn.sandbox.engines.backend import Contained
    from keyturn.sandbox.engines.docker import Docker
    from keyturn.sandbox.engines.kubernetes import Kubernetes

    engine: Engine
    if choice.engine == "docker":
        engine = Docker(choice.image, runtime=choice.runtime, address=choice.socket)
    else:
        engine = Kubernetes(
            choice.image, runtime_class=choice.runtime_class, namespace=choice.namespace, context=choice.context
        )
    return Contained(run_root, engine)
