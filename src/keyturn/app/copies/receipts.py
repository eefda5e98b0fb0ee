"""One receipt for all that a halt reaches: the sandboxes, and line by line whatever else was known to be alive.

Whatever was not seen to have ended makes the whole UNPROVEN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from keyturn.core.events import Document
from keyturn.core.terms import Json
from keyturn.flow.halt import REACHED_MAX
from keyturn.sandbox.port import Receipt


def receipt_document(receipt: Receipt) -> Document:
    """A receipt as plain data for the log."""
    plain = asdict(receipt)
    return {**plain, "unknown": list(receipt.unknown)}


def whole(sandboxes: Document, copies: Sequence[dict[str, Json]]) -> Document:
    """The receipt of the sandboxes and the copies; those that lived count among the processes before and after."""
    first: Json = {"what": "sandboxes", "name": sandboxes["scope"], "state": sandboxes["state"], "why": ""}
    lost = [row for row in copies if row["state"] != "STOPPED"]
    known = sandboxes["unknown"]
    unknown: list[Json] = [*(known if isinstance(known, list) else [])]
    unknown += [f"{row['name']}: {row['why']}" for row in lost[:REACHED_MAX]]
    before, after = (int(str(sandboxes[key])) for key in ("processes_before", "survivors"))
    seen = [row for row in copies if row["what"] == "copy"]
    in_order: list[Json] = [*lost, *(row for row in copies if row["state"] == "STOPPED")]
    scope = str(sandboxes["scope"]) + (f", and {len(copies)} known {_copies(len(copies))}" if copies else "")
    return {
        **sandboxes,
        "scope": scope,
        "processes_before": before + len(seen),
        "survivors": after + sum(row in lost for row in seen),
        "state": "UNPROVEN" if lost else sandboxes["state"],
        "unknown": unknown,
        "reached": [first, *in_order[: REACHED_MAX - 1]],
    }


def beside(receipt: Document, here: Receipt) -> Document:
    """The receipt with what was swept on this machine beside an engine; where nothing was, as it is."""
    if here.state == "STOPPED" and not here.processes_before:
        return receipt
    before, after = (int(str(receipt[key])) for key in ("processes_before", "survivors"))
    known = receipt["unknown"]
    unknown: list[Json] = [
        *(known if isinstance(known, list) else []),
        *(f"this machine: {why}" for why in here.unknown),
    ]
    return {
        **receipt,
        "scope": f"{receipt['scope']}, and {here.scope}",
        "processes_before": before + here.processes_before,
        "survivors": after + here.survivors,
        "state": receipt["state"] if here.state == "STOPPED" else "UNPROVEN",
        "unknown": unknown,
    }


def _copies(count: int) -> str:
    return "copy" if count == 1 else "copies"
