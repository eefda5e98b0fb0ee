"""What is asked of an engine, and what it answers: the part that docker and Kubernetes do differently.

An engine raises `Unavailable` for whatever it cannot say; nobody takes silence for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from keyturn.core.terms import Json
from keyturn.sandbox.port import Spec

GOVERNOR, RUN = "keyturn.governor", "keyturn.run"
"""The labels that every container of ours bears: the tag of our run root, and the name of the run."""

STATES = Literal["running", "ended", "unknown"]


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of the container's own, empty at first, in memory and no larger than `bytes_max`."""

    target: str
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Order:
    """A container as it is to be made. `user` is the user and group that everything in it runs as."""

    name: str
    tag: str
    image: str
    command: tuple[str, ...]
    user: int
    places: tuple[Place, ...]
    spec: Spec

    @property
    def processes_max(self) -> int:
        """The subject's processes, and init."""
        return self.spec.limits.processes_max + 2


@dataclass(frozen=True, slots=True)
class Look:
    """What the engine says of one container now. `detail` says it in words; `pid` is its first process here, or 0."""

    state: STATES
    detail: str
    out_of_memory: bool = False
    restarts: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Effective:
    """What the engine says that it applied: facts that are equal for equal orders, and where they fall short."""

    facts: Mapping[str, Json]
    problems: tuple[str, ...]


class Stream(Protocol):
    """The attach stream of one container, both ways."""

    def fileno(self) -> int:
        """What to wait on."""
        ...

    def pending(self) -> bool:
        """Whether something was read already that nobody has taken."""
        ...

    def send(self, data: bytes) -> None:
        """Write all of it; raises `OSError`."""
        ...

    def receive(self) -> tuple[bytes, bytes] | None:
        """What arrived on standard output and on standard error, perhaps nothing yet; None at the end."""
        ...

    def cut(self) -> None:
        """End it both ways, from any thread; whoever waits on it wakes."""
        ...

    def close(self) -> None:
        """Give its descriptor back; only by the thread that reads it."""
        ...


class Container(Protocol):
    """One container. Every method but `close` may raise `Unavailable`."""

    name: str
    number: str
    """By which the engine itself names it."""

    def effective(self, order: Order) -> Effective:
        """Read back what was applied, and compare it with what was ordered."""
        ...

    def look(self) -> Look:
        """Ask what has become of it."""
        ...

    def kill(self) -> None:
        """Have it killed, without waiting."""
        ...

    def confirm(self) -> str:
        """A second question after `look` said that it has ended; empty when the answer agrees, else what it was."""
        ...

    def remove(self) -> None:
        """Have the engine forget it; only once its end was seen."""
        ...


class Engine(Protocol):
    """A docker engine, or a cluster."""

    scope: str
    """Which engine this is, in words; every receipt names it."""

    gvisor: bool
    """Whether its containers are to run under gVisor."""

    image: str
    proof_seconds: float
    """How long this engine may take to say that a container has ended."""

    bounds: frozenset[str]
    """The options that it puts on a container's own folders."""

    lacks: tuple[str, ...]
    """What it cannot give at all, in the words of `Attestation.weaker`."""

    def ready(self) -> Mapping[str, Json]:
        """What the engine says of itself; raises `Unavailable` where it or the runtime asked for is not there."""
        ...

    def make(self, order: Order) -> tuple[Container, Stream]:
        """Make and start a container whose init waits; what was made in vain is removed."""
        ...

    def left(self, tag: str) -> list[Container]:
        """Every container that bears our label, whatever its state."""
        ...

    def close(self) -> None:
        """Let go of the engine."""
        ...
