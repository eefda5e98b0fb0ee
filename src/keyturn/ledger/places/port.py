"""What publishing asks of the place where static files lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import ClassVar


class Place(ABC):
    """Files by their path below a prefix, such as `tile/0/000`; every method raises `Unavailable` for what may pass."""

    kind: ClassVar[str] = "folder"
    """What it is called in a message."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The path or address by which people name it."""

    @property
    def title(self) -> str:
        """Its kind and address, for a message."""
        return f"the {self.kind} `{self.address}`"

    @abstractmethod
    def held(self) -> AbstractContextManager[None]:
        """Be the one that publishes here, as far as the place knows such a thing."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Every file, by its path; what a writing that was cut off left behind is left out."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is none, or something that could show other bytes tomorrow."""

    @abstractmethod
    def write_once(self, name: str, data: bytes) -> bool:
        """Write a file that never changes, and say whether it was new; raises `TamperDetected` over other bytes."""

    @abstractmethod
    def replace(self, name: str, data: bytes) -> bool:
        """Write a file durably over what was read of it, and say whether it changed; it is seen whole or not at all.

        Raises `Conflict` when somebody else replaced it in between, where the place can tell.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no matter."""

    @abstractmethod
    def sync(self) -> None:
        """Make everything durable that was written; what is replaced after that is never seen without it."""
