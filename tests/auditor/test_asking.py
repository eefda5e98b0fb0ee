"""The governor's side of an auditor: the static files are there before it is asked, and their absence stops nobody."""

from __future__ import annotations

from types import SimpleNamespace

from keyturn.app.operating.asking import LaidFirst, laid_first
from keyturn.core.errors import Unavailable
from keyturn.flow.ports import Cosigned

AUDITOR, WITNESS = SimpleNamespace(auditor=True), SimpleNamespace(auditor=False)


class Asked:
    """A port that keeps the order of what happened."""

    def __init__(self):
        self.seen = []

    def publish(self):
        self.seen.append("published")

    def fails(self):
        raise Unavailable("the disk is full")

    def cosign(self, note, parties, *, size, prove):
        self.seen.append((note, len(parties), size))
        return Cosigned(note, {"a1": "not yet"})


def ask(port, *parties):
    return port.cosign(b"note", parties, size=7, prove=lambda old: ())


def test_what_an_auditor_fetches_is_published_before_it_is_asked():
    asked = Asked()
    assert ask(LaidFirst(asked, asked.publish), WITNESS, AUDITOR).silent == {"a1": "not yet"}
    assert asked.seen == ["published", (b"note", 2, 7)]


def test_nothing_is_published_for_witnesses_that_read_no_entry():
    asked = Asked()
    ask(LaidFirst(asked, asked.publish), WITNESS)
    assert asked.seen == [(b"note", 1, 7)]


def test_everybody_is_asked_although_nothing_could_be_published_and_the_reason_is_told():
    asked = Asked()
    found = ask(LaidFirst(asked, asked.fails), AUDITOR)
    assert found.silent == {"a1": "not yet; its files could not be laid out: the disk is full"}
    assert asked.seen == [(b"note", 1, 7)]


def test_without_a_place_in_the_operation_the_witnesses_are_asked_as_they_are(tmp_path):
    asked = Asked()
    assert laid_first(asked, tmp_path, None) is asked
    (tmp_path / "operation.toml").write_text('[log]\ntiles = "pub"\n')
    assert isinstance(laid_first(asked, tmp_path, None), LaidFirst)
