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
from keyturn.flow.log import Log
from keyturn.flow.ports import Cosigned, Witnessing
from keyturn.ledger import tiles_folder


@dataclass(frozen=True, slots=True)
class LaidFirst:
    """The same witnesses, each time after `lay` where an auditor is among them; see the port."""

    witnesses: Witnessing
    lay: Callable[[], object]

    def cosign(
        self, note: bytes, parties: Sequence[Party], *, size: int, prove: Callable[[int], tuple[bytes, ...]]
    ) -> Cosigned:
        """Lay the files, then ask."""
        fault = ""
        if any(party.auditor for party in parties):
            try:
                self.lay()
            except KeyturnError as broken:
                fault = f"; its files could not be laid out: {broken.message}"
        found = self.witnesses.cosign(note, parties, size=size, prove=prove)
        return Cosigned(found.note, {name: f"{why}{fault}" for name, why in found.silent.items()})


def laid_first(witnesses: Witnessing, root: Path, log: Log) -> Witnessing:
    """These witnesses, asked once the files lie where the project's operation says that static files lie."""
    if not operation.read(root).tiles:
        return witnesses
    return LaidFirst(witnesses, lambda: tiles_folder.lay(log.store, log.log_keys, open_place(root, None, create=True)))
