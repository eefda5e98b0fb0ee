"""What the log itself keeps of the cosignatures under a head: one line of each party, and no more than one entry holds.

It chooses among lines that verify; it never counts a party that signed nothing, nor one that the policy does not count.
"""

from __future__ import annotations

from keyturn.core.keys.lines import RECORD_BYTES_MAX
from keyturn.core.policy import Party, Witnesses
from keyturn.ledger import checkpoint, note
from keyturn.wire import canonical


def recorded(data: bytes, log: checkpoint.Keys, table: Witnesses) -> tuple[tuple[str, ...], bytes] | None:
    """Return which parties an entry names and the note with a line of each; None where not even enough of them fit.

    A party's Ed25519 line is taken before its ML-DSA-44 line, because more readers can check it. All who count are
    named as far as there is room, first those without whom it would not be enough. Raises as `open_checkpoint` does.
    """
    lines = _lines(data, log, table)
    own, chosen = log.at(checkpoint.parse_body(data).size), list[str]()
    for party in _first_needed(table, lines):
        tried = [*chosen, party]
        if _bytes(note.keep(data, (*own, *(lines[each] for each in tried))), tried) <= RECORD_BYTES_MAX:
            chosen = tried
    if not chosen or table.lacking(chosen):
        return None
    kept = note.keep(data, (*own, *(lines[each] for each in chosen)))
    return table.counted(chosen), kept


def _lines(data: bytes, log: checkpoint.Keys, table: Witnesses) -> dict[str, note.Verifier]:
    """For each party that counts the key whose line is to stand for it."""
    owners = {note.parse_vkey(key): party.id for party in table.parties for key in party.keys}
    found: dict[str, note.Verifier] = {}
    for each in checkpoint.open_checkpoint(data, log, tuple(owners)).witnessed:
        owner, key = owners[each.verifier], each.verifier
        if owner not in found or key.kind == note.COSIGNATURE:
            found[owner] = key
    return {party: found[party] for party in table.counted(found)}


def _first_needed(table: Witnesses, lines: dict[str, note.Verifier]) -> list[str]:
    """The parties, auditors that are asked for first, then those with short lines."""

    def order(party: Party) -> tuple[bool, str]:
        return lines[party.id].kind == note.ML_DSA, party.id

    there = sorted((party for party in table.parties if party.id in lines), key=order)
    auditors = [party.id for party in there if party.auditor][: table.auditors]
    return [*auditors, *(party.id for party in there if party.id not in auditors)]


def _bytes(kept: bytes, parties: list[str]) -> int:
    return len(canonical.encode({"note": kept.decode("utf-8"), "parties": list(parties)}))
