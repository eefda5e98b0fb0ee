"""Asks witnesses for their cosignatures over one checkpoint (C2SP tlog-witness v1.0.0), all of them at once.

It takes nothing on trust: a line counts when a key that the caller named signed exactly this checkpoint. It never
follows a redirection, never uses a proxy, and never outlasts the time that it was given.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from keyturn.core.errors import KeyturnError, MalformedInput, TamperDetected, Unavailable, UntrustedInput
from keyturn.ledger import checkpoint, note
from keyturn.ledger.note import Signed, Verifier
from keyturn.ledger.witnessing import request
from keyturn.ledger.witnessing.request import Request

Prove = Callable[[int], tuple[bytes, ...]]
"""The consistency proof from an older size to the checkpoint's."""

TEXT_MAX = 200
_OK, _CONFLICT = 200, 409


@dataclass(frozen=True, slots=True)
class Asked:
    """A witness: the keys that it may sign with, its address, the size that it is thought to have cosigned last."""

    verifiers: tuple[Verifier, ...]
    url: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """A witness that did not cosign, and why, in one plain sentence."""

    asked: Asked
    reason: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """The note with every new cosignature that verified, whose they are, and who gave none."""

    note: bytes
    signed: tuple[Signed, ...]
    missing: tuple[Missing, ...]


class _Refused(Exception):
    """No cosignature from this witness, for this reason."""


@dataclass(slots=True)
class _Talk:
    """One witness being asked; `connection` is there so that it can be cut off when the time is over."""

    asked: Asked
    lines: tuple[str, ...] = ()
    signed: tuple[Signed, ...] = ()
    reason: str = ""
    fault: KeyturnError | None = None
    connection: socket.socket | None = None


def gather(asked: Sequence[Asked], note: bytes, *, prove: Prove, timeout_seconds: float) -> Gathered:
    """Ask every witness to cosign the checkpoint in `note`, and return the note with what they signed.

    `prove` is asked from several threads, never from two at once. A new line takes the place of an older one of the
    same key. Raises MalformedInput for what is no checkpoint or for a key that cannot cosign, and whatever of ours
    `prove` raises; that a witness is silent, refuses or lies is a `Missing`, never an error.
    """
    asking = _Asking(note, prove, time.monotonic() + timeout_seconds)
    for each in asked:
        _require_cosigners(each)
    talks = [_Talk(each) for each in asked]
    threads = [threading.Thread(target=asking.talk, args=(each,), daemon=True) for each in talks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, asking.left()))
    late = [each for each, thread in zip(talks, threads, strict=True) if thread.is_alive()]
    return _gathered(note, talks, late, timeout_seconds)


def _gathered(note_bytes: bytes, talks: list[_Talk], late: list[_Talk], seconds: float) -> Gathered:
    for each in late:
        _cut(each.connection)
    done = [each for each in talks if all(each is not other for other in late)]
    for each in done:
        if each.fault is not None:
            raise each.fault
    lines = [line for each in done for line in each.lines]
    signed = tuple(one for each in done for one in each.signed)
    reasons = {id(each): f"did not answer within {seconds:g} s" for each in late}
    reasons |= {id(each): each.reason or "gave no answer" for each in done if not each.signed}
    missing = tuple(Missing(each.asked, reasons[id(each)]) for each in talks if id(each) in reasons)
    return Gathered(note.merge(note_bytes, lines), signed, missing)


def _cut(connection: socket.socket | None) -> None:
    if connection is not None:
        with suppress(OSError):  # it may have closed by itself in this very moment
            connection.shutdown(socket.SHUT_RDWR)


def _require_cosigners(asked: Asked) -> None:
    for each in asked.verifiers:
        if each.kind not in note.COSIGNING:
            message = f"the key `{each.name}` is of kind {each.kind}, which cannot cosign"
            raise MalformedInput(message, help="take the witness's own verifier key: `keyturn witness show DIR`")


@dataclass(slots=True)
class _Asking:
    """One checkpoint on its way to its witnesses."""

    note: bytes
    prove: Prove
    until: float
    size: int = field(init=False)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.size = checkpoint.parse_body(self.note).size

    def left(self) -> float:
        """How many seconds are left."""
        return self.until - time.monotonic()

    def talk(self, talk: _Talk) -> None:
        """Ask one witness, once more where it says from which size it wants the proof, and keep what it signed."""
        try:
            answer = self._settled(talk, min(talk.asked.size, self.size))
            talk.lines, talk.signed = _taken(talk.asked, self.note, answer)
        except _Refused as refused:
            talk.reason = str(refused)
        except KeyturnError as fault:
            talk.fault = fault

    def _settled(self, talk: _Talk, old: int) -> bytes:
        status, kind, body = self._posted(talk, old)
        if status == _CONFLICT and kind == request.SIZE_TYPE:
            status, kind, body = self._posted(talk, self._wanted(body, old))
            if status == _CONFLICT and kind == request.SIZE_TYPE:
                raise _Refused("moved on while it was asked; ask again")
        if status != _OK:
            raise _Refused(f"refused with {status}: {_plain(body)}")
        return body

    def _wanted(self, body: bytes, old: int) -> int:
        """From which size the witness wants the proof."""
        try:
            wanted = request.decode_size(body)
        except MalformedInput as fault:
            raise _Refused("refused with 409 and did not say at which size it is") from fault
        if wanted > self.size:
            raise _Refused(f"has cosigned {wanted} entries already; this checkpoint has {self.size}")
        if wanted == old:
            raise _Refused(f"refused with 409 to go on from {old}, where it says that it is")
        return wanted

    def _posted(self, talk: _Talk, old: int) -> tuple[int, str, bytes]:
        with self._turn:
            if self.left() <= 0:  # whoever waits has gone, and with them perhaps the log
                raise _Refused("did not answer in time")
            hashes = self.prove(old) if 0 < old < self.size else ()
        body = request.encode(Request(old, hashes, self.note))
        try:
            return self._exchanged(talk, body)
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise _Refused(
                f"cannot be reached: {_plain(str(fault).encode() or type(fault).__name__.encode())}"
            ) from fault

    def _exchanged(self, talk: _Talk, body: bytes) -> tuple[int, str, bytes]:
        """One request and its answer: the status, the content type, and the body as far as it counts."""
        url = _address(talk.asked.url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=max(self.left(), 0.001))
        try:
            connection.connect()
            talk.connection = line = connection.sock
            connection.request("POST", url.path.rstrip("/") + request.PATH, body, {"Content-Type": "text/plain"})
            response = connection.getresponse()
            parts, read = [b""], 0
            while read <= request.ANSWER_BYTES_MAX and not response.isclosed():
                line.settimeout(max(self.left(), 0.001))
                parts.append(response.read1(8192))
                read += len(parts[-1])
                if not parts[-1]:
                    break
            said = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
            return response.status, said, b"".join(parts)[: request.ANSWER_BYTES_MAX + 1]
        finally:
            connection.close()


def _address(url: str) -> SplitResult:
    parts = urlsplit(url)
    plain = not parts.query and not parts.fragment and "@" not in parts.netloc
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
        raise ValueError("its address is not of the form https://HOST/PATH")
    return parts


def _taken(asked: Asked, note_bytes: bytes, answer: bytes) -> tuple[tuple[str, ...], tuple[Signed, ...]]:
    """The lines by this witness's own keys; one that does not fit, and nothing of this answer is believed."""
    if len(answer) > request.ANSWER_BYTES_MAX:
        raise _Refused(f"answered with more than {request.ANSWER_BYTES_MAX} bytes")
    taken: dict[Verifier, tuple[str, Signed]] = {}
    unchecked = False
    try:
        for line in request.decode_lines(answer):
            found = _opened(asked, note_bytes, line)
            unchecked |= bool(found.unchecked)
            for one in found.signed:
                if not one.at:
                    raise _Refused(f"signed as `{one.verifier.name}` without saying when")
                taken.setdefault(one.verifier, (line, one))
    except MalformedInput as fault:
        raise _Refused(f"answered with what is no cosignature: {_plain(fault.message.encode())}") from fault
    except TamperDetected as fault:
        raise _Refused("answered with a bad signature: it does not fit this checkpoint") from fault
    if not taken:
        lacking = "only with ML-DSA-44, which cannot be checked here" if unchecked else "without a line by its own keys"
        raise _Refused(f"answered {lacking}")
    return tuple(line for line, _ in taken.values()), tuple(one for _, one in taken.values())


def _opened(asked: Asked, note_bytes: bytes, line: str) -> note.Opened:
    """What this one line is worth over the text of the note."""
    text = note.text_of(note_bytes)
    try:
        return note.open_note(f"{text}\n{line}\n".encode(), asked.verifiers)
    except UntrustedInput:
        return note.Opened(text, (), ("",))
    except Unavailable:
        return note.Opened(text, (), (), ("",))


def _plain(said: bytes) -> str:
    """Text of others in one short line without anything that could act on a terminal."""
    text = said[: TEXT_MAX * 4].decode("utf-8", "replace")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
