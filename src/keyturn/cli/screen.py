"""Lines of text that are safe to print: whoever wrote a word, it cannot move the cursor or change its neighbours.

Never lets a control character, a direction mark or a line break of others through, and never relies on colour alone.
A `Sheet` is a screen that is made whole and then printed; a `Screen` tells a story line by line.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TextIO

from keyturn.core.terms import Instant

WIDTH: Final = 80
SAFE_MAX: Final = 200
MARKS_MAX: Final = 2
_ELLIPSIS: Final = "…"
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_CODES: Final = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2", "cyan": "36", "inverse": "7"}


def safe(value: object, most: int = SAFE_MAX) -> str:
    r"""Text of others on one line: unseen characters are written out (`\u202e`), runs of marks and length are cut.

    `most` counts columns. Tabs and line breaks become spaces; everything of the classes control, format (which holds
    the direction marks), surrogate, private and unassigned is shown by its number, so that an attempt stays visible.
    """
    parts: list[str] = []
    room, marks = most, 0
    for char in str(value)[: most * 4 + 4]:
        shown = _shown(char)
        marks = marks + 1 if shown == char and unicodedata.category(char) in {"Mn", "Me"} else 0
        if marks > MARKS_MAX:
            continue
        room -= columns(shown)
        if room < 0:
            return _cut("".join(parts), most - 1) + _ELLIPSIS
        parts.append(shown)
    return "".join(parts)


def _shown(char: str) -> str:
    if char in "\t\n\r\v\f":
        return " "
    if unicodedata.category(char) not in _UNSEEN:
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def _cut(text: str, most: int) -> str:
    """The longest beginning that fits `most` columns."""
    while columns(text) > most:
        text = text[:-1]
    return text


def columns(text: str) -> int:
    """How many columns a line takes: our own colours take none, wide characters take two."""
    plain = _OURS.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(_width(char) for char in plain)


def _width(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def clip(text: str, most: int) -> str:
    """A plain text cut to so many columns, its end marked; for cells of tables."""
    return text if columns(text) <= most else _cut(text, most - 1) + _ELLIPSIS


def pad(text: str, wide: int) -> str:
    """The text, filled up with spaces to so many columns."""
    return text + " " * (wide - columns(text))


def utc(moment: int) -> str:
    """A moment as `2026-11-23 21:05:10Z`, to the second below; `never` where there is none."""
    if moment <= 0:
        return "never"
    try:
        return (_EPOCH + timedelta(milliseconds=moment)).strftime("%Y-%m-%d %H:%M:%SZ")
    except OverflowError:
        return "beyond year 9999"


def span(milliseconds: float) -> str:
    """A length of time in its two largest units, such as `3 h 20 min`."""
    seconds = int(abs(milliseconds) // 1000)
    for size, word, small, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // small
            return f"{seconds // size} {word}" + (f" {rest} {less}" if rest else "")
    return f"{seconds} s"


def until(then_at: Instant, now: Instant) -> str:
    """How far off a moment is: `in 3 h 20 min` or `5 min ago`."""
    return f"in {span(then_at - now)}" if then_at > now else f"{span(now - then_at)} ago"


def actor(name: str) -> str:
    """Who acted, as people are called: without the `person:` that the log writes."""
    return safe(name.removeprefix("person:"), 60)


def short(digest: object) -> str:
    """A digest's first eight hexadecimal digits: they name it on a screen, and commands take them."""
    return safe(str(digest).removeprefix("sha256:")[:8])


def count(number: int, word: str, plural: str = "") -> str:
    """`1 candidate`, `2 candidates`."""
    return f"{number} {word if number == 1 else plural or word + 's'}"


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken at spaces; a longer word is broken where it must be."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if columns(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = _broken(word, width)
        lines += full
    return [*lines, line] if line or not lines else lines


def _broken(word: str, width: int) -> list[str]:
    """A word in parts of at most `width` columns."""
    parts = []
    while columns(word) > width:
        parts.append(_cut(word, width))
        word = word[len(parts[-1]) :]
    return [*parts, word]


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours, or none: what a colour means is always also said in a word or a shape."""

    colour: bool = False

    def __call__(self, text: str, *styles: str) -> str:
        """The text in these styles."""
        codes = ";".join(_CODES[style] for style in styles if style)
        return f"\x1b[{codes}m{text}\x1b[0m" if self.colour and codes and text else text


@dataclass(slots=True)
class Sheet:
    """A screen under construction: lines of at most `width` columns."""

    width: int = WIDTH
    paint: Paint = Paint()
    lines: list[str] = field(default_factory=list)

    def line(self, text: str = "") -> None:
        """This very line."""
        self.lines.append(text)

    def say(self, text: str, *styles: str, indent: int = 0, hang: int | None = None) -> None:
        """A paragraph, wrapped; later lines are indented by `hang`, or as the first."""
        deep = indent if hang is None else hang
        first, *rest = wrap(text, self.width - max(indent, deep))
        self.line(" " * indent + self.paint(first, *styles))
        for each in rest:
            self.line(" " * deep + self.paint(each, *styles))

    def title(self, text: str) -> None:
        """The head of a section, after an empty line."""
        if self.lines and self.lines[-1]:
            self.line()
        self.line(self.paint(text, "bold"))

    def entry(self, name: str, text: str, *styles: str, wide: int = 12) -> None:
        """A name and what is to be said about it, wrapped beside it."""
        first, *rest = wrap(text, self.width - wide - 2)
        self.line("  " + pad(self.paint(name, "dim"), wide) + self.paint(first, *styles))
        for each in rest:
            self.line(" " * (wide + 2) + self.paint(each, *styles))

    def command(self, text: str, note: str = "") -> None:
        """A command to be copied, with what it does where there is room."""
        beside = 2 + columns(text) + 5 + columns(note) <= self.width
        tail = f"   {self.paint('# ' + note, 'dim')}" if note and beside else ""
        self.line(f"  {self.paint(text, 'cyan')}{tail}")
        if note and not beside:
            self.say(f"# {note}", "dim", indent=4)

    def rule(self) -> None:
        """A line across."""
        self.line(self.paint("─" * self.width, "dim"))

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], *, indent: int = 2) -> None:
        """Rows in columns as wide as they need; the last column is wrapped into what is left."""
        body = [list(row) for row in rows]
        wide = [max(columns(row[i]) for row in [list(head), *body]) for i in range(len(head) - 1)]
        left = indent + sum(wide) + 2 * len(wide)
        if any(head):
            cells = [pad(cell, width) for cell, width in zip(head, wide, strict=False)]
            self.line(" " * indent + self.paint("  ".join([*cells, head[-1]]), "dim"))
        for row in body:
            first, *rest = wrap(row[-1], max(self.width - left, 12))
            cells = [pad(cell, width) for cell, width in zip(row, wide, strict=False)]
            self.line((" " * indent + "  ".join([*cells, first])).rstrip())
            for each in rest:
                self.line(" " * left + each)

    def text(self) -> str:
        """The screen as one text that ends with a line feed."""
        return "\n".join(line.rstrip() for line in self.lines) + "\n"


def wants_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, and nobody asked it not to (https://no-color.org)."""
    terminal = bool(getattr(stream, "isatty", lambda: False)())
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen:
    """A story told line by line on standard output; `silent` tells it to nobody."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self.colour = not silent and wants_colour(sys.stdout)
        self._paint = Paint(colour=self.colour)
        self._passing = False

    def line(self, text: str = "") -> None:
        """One line, or several; a passing line of progress gives way to it."""
        if self._silent:
            return
        if self._passing:
            sys.stdout.write("\r\x1b[K")
            self._passing = False
        print(text, flush=True)

    def say(self, text: str, *styles: str) -> None:
        """A sentence, indented and broken at the width of a screen."""
        first, *rest = wrap(text, WIDTH - 5)
        for each in (f"   {first}", *(f"     {more}" for more in rest)):
            self.line(self._paint(each, *styles))

    def heading(self, text: str) -> None:
        """A part of the story begins."""
        self.line()
        self.line(self.bold(text))
        self.line(self.note("─" * min(columns(text), WIDTH)))

    def progress(self, text: str) -> None:
        """What goes on just now: on a terminal it passes, elsewhere it stays as a line."""
        if self._silent:
            return
        if not self.colour:
            print(text, flush=True)
            return
        sys.stdout.write("\r\x1b[K" + self.note(clip(text, WIDTH - 1)))
        sys.stdout.flush()
        self._passing = True

    def bold(self, text: str) -> str:
        """Text that stands out."""
        return self._paint(text, "bold")

    def good(self, text: str) -> str:
        """Text that says that something holds."""
        return self._paint(text, "green")

    def warn(self, text: str) -> str:
        """Text that asks for attention."""
        return self._paint(text, "yellow")

    def bad(self, text: str) -> str:
        """Text that says that something does not hold."""
        return self._paint(text, "red")

    def note(self, text: str) -> str:
        """Text that stands back."""
        return self._paint(text, "dim")
