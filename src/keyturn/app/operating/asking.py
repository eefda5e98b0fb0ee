"""Witnesses who are asked once the log's static files hold the head: an auditor among them fetches it from there.

A place that cannot be written to delays nobody: everyone is asked, and who is silent is told about with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.operating import operation
from keyturn.app.operating.opening import open_place
from keyturn.core.errors import KeyturnError
from keyturn.core.policy import Party
from keyturn.flow.ports import Cosigned, Witnessing
from keyturn.ledger import note as notes
from keyturn.ledger import tiles_folder
from keyturn.ledger.stores.port import LogStore


@dataclass(frozen=True, slots=True)
class PublishedFirst:
    """The same witnesses, each time after `publish` where an auditor is among them; see the port."""

    witnesses: Witnessing
    publish: Callable[[], object]

    def cosign(
        self, note: bytes, parties: Sequence[Party], *, size: int, prove: Callable[[int], tuple[bytes, ...]]
    ) -> Cosigned:
        """Publish, then ask."""
        fault = ""
        if any(party.auditor for party in parties):
            try:
                self.publish()
            except KeyturnError as broken:
                fault = f"; nothing was published for it: {broken.message}"
        found = self.witnesses.cosign(note, parties, size=size, prove=prove)
        return Cosigned(found.note, {name: f"{why}{fault}" for name, why in found.silent.items()})


def published_first(witnesses: Witnessing, root: Path, store: LogStore, log_key: str) -> Witnessing:
    """These witnesses, asked after publishing, where the project's operation says where its static files lie."""
    if not operation.read(root).tiles:
        return witnesses

    def publish() -> None:
        tiles_folder.publish(store, notes.parse_vkey(log_key), open_place(root, None, create=True))

    return PublishedFirst(witnesses, publish)
