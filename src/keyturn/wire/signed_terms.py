"""The one way in which a person's terms become the bytes that they sign, and back.

M = DSSE-PAE(JCS(in-toto statement)). The first field of the terms names the subject; every other field is one
member of the predicate, under its own name. It never signs, and never decides whether terms are acceptable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from keyturn.core.errors import MalformedInput
from keyturn.wire import canonical, digest, dsse, statement
from keyturn.wire.statement import Statement

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from keyturn.core.terms import Json

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")

TEXT_MAX = 4_000
"""The longest text, in characters, that one field may hold."""


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How one kind of terms is written; `check` raises MalformedInput for values that contradict each other."""

    terms: type[T]
    predicate_type: str
    subject: str
    check: Callable[[T], None]

    def statement(self, terms: T) -> Statement:
        """Return the statement of `terms`; raises MalformedInput when they would not read back."""
        said = {field.name: getattr(terms, field.name) for field in fields(terms)}
        subject = digest.parse(said.pop(self._subject_field()))
        made = Statement(((self.subject, subject),), self.predicate_type, said)
        self.terms_of(made)
        return made

    def payload(self, terms: T) -> bytes:
        """Return the canonical JSON of the statement: the payload of the envelope."""
        return statement.encode(self.statement(terms))

    def message(self, terms: T) -> bytes:
        """Return M, the bytes that the person's key signs."""
        return dsse.pae(statement.PAYLOAD_TYPE, self.payload(terms))

    def terms_of(self, made: Statement) -> T:
        """Read terms strictly: another predicate, a key unknown or missing, a wrong type raise MalformedInput."""
        if made.predicate_type != self.predicate_type:
            self._refuse(f"found the predicate `{made.predicate_type}`; `{self.predicate_type}` is expected")
        if len(made.subjects) != 1 or made.subjects[0][0] != self.subject:
            self._refuse(f"found another subject than one `{self.subject}`")
        kinds = {field.name: str(field.type) for field in fields(self.terms) if field.name != self._subject_field()}
        for key in sorted(set(made.predicate) ^ set(kinds)):
            self._refuse(f"found the key `{key[:40]}` {'missing' if key in kinds else 'which is unknown'}")
        said: dict[str, Any] = {key: self._read(key, kind, made.predicate[key]) for key, kind in kinds.items()}
        terms = self.terms(**{self._subject_field(): made.subjects[0][1], **said})
        self.check(terms)
        return terms

    def read(self, payload: bytes) -> T:
        """Read terms from the payload of an envelope, which must be canonical, so that it is all that M covers."""
        canonical.decode_canonical(payload)
        return self.terms_of(statement.decode(payload))

    def _subject_field(self) -> str:
        return fields(self.terms)[0].name

    def _read(self, key: str, kind: str, value: Json) -> Json:
        if kind == "Digest":
            return digest.parse(value)
        if kind in {"int", "Instant"}:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                self._refuse(f"found no whole number from 0 on in `{key}`")
        elif not isinstance(value, str) or len(value) > TEXT_MAX:
            self._refuse(f"found no text of at most {TEXT_MAX} characters in `{key}`")
        return value

    def _refuse(self, message: str) -> None:
        raise MalformedInput(message, help=f"write the statement again as `{self.predicate_type}`")


def require_words(terms: object, *names: str) -> None:
    """Raise MalformedInput when one of the fields `names` is empty."""
    for name in names:
        if not getattr(terms, name):
            raise MalformedInput(f"found nothing in `{name}`", help=f"say `{name}`")
