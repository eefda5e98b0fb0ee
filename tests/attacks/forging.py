"""What a thief of the log key and the service key does to a log: other entries under a good signature, as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from keyturn.cli.main import main
from keyturn.ledger import checkpoint
from keyturn.ledger.note import Signer
from keyturn.ledger.store import Store


def signed_log(place: Path, leaves: Sequence[bytes], key: Signer) -> Path:
    """A log that holds exactly these leaves, under a checkpoint that this key signed."""
    place.unlink(missing_ok=True)
    with Store.open(place, create=True) as store:
        store.append(list(leaves), expected=None)
        head = store.head()
        note = checkpoint.sign(checkpoint.Checkpoint(key.name, head.size, head.root), key)
        store.save_checkpoint(head.size, head.root, note)
    return place


def leaves_in(db: Path) -> list[bytes]:
    """Every entry of a log."""
    with Store.open(db) as store:
        return list(store.leaves(0, store.head().size))


def verified(capsys, db: Path, *words: str) -> tuple[int, list[str]]:
    """What `keyturn verify log` says about a log: its exit code, and `INDEX RULE MESSAGE` of each problem."""
    capsys.readouterr()
    code = main(["verify", "log", str(db), "--json", *words])
    body = json.loads(capsys.readouterr().out)
    return code, [f"{each['index']} {each['rule']} {each['message']}" for each in body["problems"]]
