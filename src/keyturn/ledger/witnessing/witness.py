"""What a witness answers (C2SP tlog-witness v1.0.0): it cosigns a head that continues the one that it cosigned last.

It never signs before it remembers: a cosignature leaves only after the disk holds what was signed. It says nothing
about what stands in a log; an auditor's `judge` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, TamperDetected, Unavailable, UntrustedInput
from keyturn.core.terms import Instant
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.note import Signer, Verifier
from keyturn.ledger.tree import EMPTY_ROOT
from keyturn.ledger.witnessing import request
from keyturn.ledger.witnessing.memory import Fork, Memory, Seen
from keyturn.ledger.witnessing.request import Request

Judge = Callable[[bytes], str | None]
"""Why the head in this note, which a known key of its log signed, must not be believed; None if it may be."""

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: the HTTP status, the body, and its content type."""

    status: int
    body: bytes
    kind: str = TEXT


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A key of the witness: its signer, and its kind, `note.COSIGNATURE` or `note.ML_DSA`."""

    signer: Signer
    kind: int

    @property
    def verifier(self) -> Verifier:
        """What others know it by."""
        return Verifier(self.signer.name, self.signer.public, self.kind)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request whose checkpoint these keys of its log signed; `note` holds no other line than theirs."""

    request: Request
    head: Checkpoint
    note: bytes
    signers: tuple[Verifier, ...]


@dataclass(frozen=True, slots=True)
class Witness:
    """One witness. Both methods raise what its memory raises; then nothing was signed.

    `judge` is asked after signature and consistency held, outside of any transaction, so it may take its time; what it
    raises goes to the caller. Everything is then compared again, because others may have asked meanwhile.

    `vouch` is asked about a head that would convict the log, before it is kept as evidence: it says why the log cannot
    be held to that signature. Without it every key in memory is the log's.
    """

    memory: Memory
    cosigners: tuple[Cosigner, ...]
    now: Callable[[], Instant]
    judge: Judge | None = None
    vouch: Judge | None = None

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer a request to cosign; 200 only with a cosignature over a head that this witness now remembers."""
        asked = self._read(body)
        if isinstance(asked, Answer):
            return asked
        seen = self.memory.seen(asked.head.origin)
        refused = self._outdated(asked, seen)
        if refused is not None:
            return refused
        refused = self._refused(asked, seen)
        if seen is not None and seen.head.size == asked.head.size and seen.head.root != asked.head.root:
            doubt = None if self.vouch is None else self.vouch(asked.request.note)
            if doubt is not None:
                return _said(403, doubt)
            # Whatever the old size in the request: the log signed both, and that alone convicts it.
            self.memory.keep_fork(asked.head, Fork(seen.note, asked.note, self.now()))
        if refused is None and self.judge is not None:
            reason = self.judge(asked.request.note)
            refused = None if reason is None else _said(422, reason)
        return refused or self._settled(asked)

    def latest(self, origin_hash: str) -> Answer:
        """Answer a monitor: the last head that was cosigned of the log whose origin has this SHA-256, in hexadecimal.

        It carries the log's signature and ours; 404 when nothing of such a log was ever cosigned.
        """
        for log in self.memory.logs():
            if hashlib.sha256(log.origin.encode()).hexdigest() == origin_hash and log.seen is not None:
                return Answer(200, log.seen.note)
        return _said(404, "nothing of such a log was ever cosigned here")

    def _read(self, body: bytes) -> _Asked | Answer:
        """The checks that need no memory of heads: form, origin, signature."""
        try:
            asked = request.decode(body)
            head = checkpoint.parse_body(asked.note)
        except MalformedInput as fault:
            return _said(400, fault.message)
        keys = self.memory.keys(head.origin)
        if not keys:
            return _said(404, "this witness does not know the log of that origin")
        try:
            opened = note.open_note(asked.note, keys)
        except (UntrustedInput, TamperDetected, Unavailable) as fault:
            return _said(403, fault.message)
        if asked.old > head.size:
            return _said(400, f"the old size {asked.old} is beyond the checkpoint's, {head.size}")
        signers = tuple(each.verifier for each in opened.signed)
        return _Asked(asked, head, note.keep(asked.note, signers), signers)

    def _outdated(self, asked: _Asked, seen: Seen | None) -> Answer | None:
        """Why the keys that signed this head speak for the log no more; None when they do.

        Among the keys that are known now, one that is as new as the newest under the head that was cosigned last must
        have signed: whoever adds a key signs with it from then on, and the one before may be anybody's.
        """
        known = self.memory.keys(asked.head.origin)
        now = [place for place, key in enumerate(known) if key in asked.signers]
        if not now:
            return _said(403, "the key that signed this checkpoint is not trusted here any more")
        last = note.named(seen.note, known) if seen else ()
        if last and max(now) < known.index(last[-1]):
            newest = f"{last[-1].name}+{last[-1].hash.hex()}"
            return _said(
                403, f"only an older key signed this; the head cosigned last has the newer `{newest}` under it"
            )
        return None

    def _refused(self, asked: _Asked, seen: Seen | None) -> Answer | None:
        """Why this head does not continue what was cosigned last; None when it does."""
        last = seen.head if seen else Checkpoint(asked.head.origin, 0, EMPTY_ROOT)
        if asked.request.old != last.size:
            return Answer(409, f"{last.size}\n".encode(), request.SIZE_TYPE)
        if asked.head.size == last.size and asked.head.root != last.root:
            return _said(409, f"another root was cosigned for the size {last.size}")
        continues = tree.check_consistency(
            old=last.size,
            old_root=last.root,
            new=asked.head.size,
            new_root=asked.head.root,
            proof=asked.request.hashes,
        )
        if not continues:
            return _said(422, f"the proof does not lead from the size {last.size}, cosigned here, to {asked.head.size}")
        return None

    def _settled(self, asked: _Asked) -> Answer:
        """Compare once more, sign, and remember, all in one transaction; the answer leaves after it."""
        with self.memory.changing():
            seen = self.memory.seen(asked.head.origin)
            refused = self._outdated(asked, seen) or self._refused(asked, seen)
            if refused is not None:
                return refused
            now = self.now()
            if seen is not None and now < seen.at:
                return _said(503, "the clock of this witness is behind what it has sworn to; its operator must look")
            signed = asked.note
            for each in self.cosigners:
                signed = note.cosign(signed, each.signer, at=now, kind=each.kind)
            self.memory.remember(Seen(asked.head, now, signed))
        return Answer(200, signed[len(asked.note) :])


def _said(status: int, reason: str) -> Answer:
    return Answer(status, f"{reason}\n".encode())
