"""A program may change what stands between the marks of its parent, and reaches nothing outside them by its text."""

from __future__ import annotations

import pytest

from keyturn.core.admission import look, protected
from keyturn.core.policy import Loop

LOOP = Loop("program.py", "evolve-blocks", 50, 60)
BYTES_MAX = 100_000

PARENT = '''"""Find the lowest point."""

import math


# EVOLVE-BLOCK-START
def search(budget):
    return 0.0
# EVOLVE-BLOCK-END


limit = 5


def measure(x):
    """How low it lies."""
    return math.sin(x)


# EVOLVE-BLOCK-START
def polish(x):
    return x
# EVOLVE-BLOCK-END


def run(budget):
    return measure(polish(search(min(budget, limit))))
'''

FIRST = "def search(budget):\n    return 0.0"
SECOND = "def polish(x):\n    return x"

CLASS = """class Search:
    # EVOLVE-BLOCK-START
    def step(self):
        return 1
    # EVOLVE-BLOCK-END

    def measure(self, x):
        return x
"""


def child(first: str = FIRST, second: str = SECOND) -> str:
    return PARENT.replace(FIRST, first).replace(SECOND, second)


def refused(source: str, parent: str = PARENT) -> str:
    """What the one finding says."""
    [finding] = look(source.encode(), parent, LOOP, BYTES_MAX)
    assert finding.rule == "protected_text_must_stand"
    return finding.message


def test_the_parent_itself_and_an_honest_child_stand() -> None:
    assert look(PARENT.encode(), PARENT, LOOP, BYTES_MAX) == ()
    honest = child("@staticmethod\ndef search(budget):\n    '''Twice.'''\n    return sum(\n        [1.0, 2.0]\n    )")
    assert look(honest.encode(), PARENT, LOOP, BYTES_MAX) == ()


MARK = "# EVOLVE-BLOCK-START\n"
END = "# EVOLVE-BLOCK-END\n"
MOVED = {
    "an end moved down over protected text": PARENT.replace(f"{END}\n\nlimit = 5\n", f"\n\nlimit = 9\n{END}", 1),
    "a start moved up over protected text": PARENT.replace(f"import math\n\n\n{MARK}", f"{MARK}import os\n\n\n", 1),
    "an end moved over blank lines": PARENT.replace(f"{END}\n\nlimit", f"\n\n{END}limit", 1),
    "both blocks joined into one": PARENT.replace(END, "", 1).replace(MARK + "def polish", "def polish", 1),
    "a block too many": PARENT.replace("limit = 5\n", f"{MARK}limit = 9\n{END}"),
    "a block twice": PARENT.replace(f"{MARK}{FIRST}\n{END}", f"{MARK}{FIRST}\n{END}{MARK}{FIRST}\n{END}"),
    "a block in a block": child(first=f"{MARK}{FIRST}\n{END}".rstrip()),
    "an end before its start": PARENT.replace(MARK, "@@", 1).replace(END, MARK, 1).replace("@@", END, 1),
    "no start": PARENT.replace(MARK, "", 1),
    "no end": PARENT.replace(END, "", 1),
    "no marks at all": PARENT.replace(MARK, "").replace(END, ""),
    "everything in one block": f"{MARK}{PARENT.replace(MARK, '').replace(END, '')}{END}",
    "a mark with a word behind it": PARENT.replace(MARK, "# EVOLVE-BLOCK-START now\n", 1),
    "a mark behind a statement": PARENT.replace(MARK, "pass  # EVOLVE-BLOCK-START\n", 1),
    "a mark in other letters": PARENT.replace(MARK, "# evolve-block-start\n", 1),
    "a mark with a look-alike letter": PARENT.replace(MARK, "# EV\u041eLVE-BLOCK-START\n", 1),
    "a mark cut by a carriage return": PARENT.replace(MARK, "# EVOLVE-BLOCK-\rSTART\n", 1),
    "a forged end in a text": child(first=f"{FIRST}\nx = '''\n{END}limit = 5\n{MARK}'''"),
    "the measure in other words": PARENT.replace("math.sin(x)", "math.sin(x) - 9"),
    "the measure's docstring in other words": PARENT.replace("How low it lies", "How high it lies"),
    "nothing at all": "x = 1\n",
}


@pytest.mark.parametrize("name", MOVED)
def test_marks_cannot_be_moved_doubled_nested_or_taken_away(name: str) -> None:
    assert MOVED[name] != PARENT
    assert refused(MOVED[name])


REACHING = {
    "a decorator left for what follows": child(first=f"{FIRST}\n@(lambda _: lambda x: -9.0)"),
    "a decorator left for what follows, behind a comment": child(first=f"{FIRST}\n@staticmethod\n# nothing to see"),
    "a bracket from one block to the next": child(first=f"{FIRST}\n_ = dict(", second=f")\n{SECOND}"),
    "a text from one block to the next": child(first=f"{FIRST}\n_ = '''", second=f"'''\n{SECOND}"),
    "a text that the measure's docstring ends": child(first=f'{FIRST}\n_ = """'),
    "a condition left for what follows": child(first=f"{FIRST}\nif False:"),
    "a line that goes on": child(first=f"{FIRST}\nx = 1 + \\"),
    "an assignment that goes on": child(first=f"{FIRST}\nx = \\"),
    "a text that goes on": child(first=f"{FIRST}\nx = 'a\\"),
    "a statement outside its block": child(first="def search(budget):"),
}


@pytest.mark.parametrize("name", REACHING)
def test_a_block_cannot_reach_out_of_its_marks(name: str) -> None:
    assert refused(REACHING[name]) in {
        "a block reaches out of its marks and changes what stands outside",
        "it cannot be read as Python: SyntaxError",
        "it cannot be read as Python: IndentationError",
    }


@pytest.mark.parametrize(
    "inside",
    [
        "    def step(self):\n        return 1\n\n    @staticmethod",
        "    def step(self):\n        return 1\n\n\nclass Other:\n    def step(self):\n        return 2",
        "    def step(self):\n        return 1\n\n\nif False:\n    pass",
        "    def step(self):\n        return 1\n\n    class Inner:\n        pass\n\n\ndef outer():\n    pass",
    ],
)
def test_a_block_in_a_class_cannot_take_its_neighbours_along(inside: str) -> None:
    parent = "    def step(self):\n        return 1"
    assert protected(CLASS.replace(parent, inside), CLASS, LOOP)
    assert not protected(CLASS.replace(parent, "    def step(self):\n        return 7\n\n    extra = 3"), CLASS, LOOP)


@pytest.mark.parametrize(
    "inside",
    [
        "x = " + "(" * 5_000 + ")" * 5_000,
        "x = " + "-" * 90_000 + "1",
        "x = " + "1+" * 40_000 + "1",
        "x = a" + ".b" * 40_000,
        "x = " + "[" * 90_000,
        "x = " + "lambda:" * 10_000 + "1",
        "if x: pass\n" + "elif x: pass\n" * 5_000,
        "x = " + "9" * 90_000,
    ],
)
def test_a_text_that_is_too_deep_to_read_is_refused_and_breaks_nothing(inside: str) -> None:
    assert refused(child(first=inside)).startswith("it cannot be read as Python")


def test_ten_megabytes_are_refused_by_their_size_alone() -> None:
    [finding] = look(b"(" * 10_000_000, PARENT, LOOP, BYTES_MAX)
    assert finding.rule == "size_must_fit"


@pytest.mark.parametrize(
    "bad",
    [b"\x00", b"\xed\xa0\x80", b"\xff", "\u2028".encode(), "\x85".encode(), b"\x0c\x0b", "\u202e".encode()],
)
def test_what_no_editor_saves_is_refused_before_the_marks_are_looked_at(bad: bytes) -> None:
    source = PARENT.encode().replace(b"0.0", b"'" + bad + b"'")
    [finding] = look(source, PARENT, LOOP, BYTES_MAX)
    assert finding.rule == "text_must_be_plain"


def test_a_lone_surrogate_that_came_as_text_is_refused_too() -> None:
    """The governor reads bytes; whoever hands in text with a surrogate in it cannot even encode it."""
    with pytest.raises(UnicodeEncodeError):
        child(first="x = '\ud800'").encode()
    [finding] = look(child(first="x = '\ud800'").encode("utf-8", "surrogatepass"), PARENT, LOOP, BYTES_MAX)
    assert finding.rule == "text_must_be_plain"


LAST = "def polish(x):\n    return x"
ANEW = {
    "a function": "def measure(x):\n    return -9.0",
    "a function by a class": "class measure:\n    pass",
    "a function by assignment": "measure = lambda x: -9.0",
    "a function in a branch": "if True:\n    measure = abs",
    "a function by a loop": "for measure in (abs,):\n    pass",
    "a function by a walrus": "print(measure := abs)",
    "a function by an import": "from math import cos as measure",
    "a module": "import cmath as math",
    "a function later, from within": "def polish(x):\n    global measure\n    measure = abs\n    return x",
    "nothing at all": "del measure",
}


@pytest.mark.parametrize("name", ANEW)
def test_a_block_cannot_bind_anew_what_stands_outside(name: str) -> None:
    said = refused(child(second=f"{LAST}\n\n\n{ANEW[name]}"))
    assert said in {f"a block binds `{fixed}` anew, which stands outside" for fixed in ("measure", "math")}


def test_what_a_block_may_bind_it_still_may() -> None:
    for block in ("import math\n", "def helper(measure):\n    limit = 2\n    return measure + limit\n", "limit = 7\n"):
        source = child(second=f"{block}{LAST}")
        assert look(source.encode(), PARENT, LOOP, BYTES_MAX) == ()
    early = child(first=f"{FIRST}\n\n\ndef measure(x):\n    return 0")
    assert look(early.encode(), PARENT, LOOP, BYTES_MAX) == (), "the one outside comes later, and holds"


def test_a_method_that_stands_cannot_be_overridden_behind_it() -> None:
    parent = CLASS.replace("    # EVOLVE", "    def fixed(self):\n        return 1\n\n    # EVOLVE", 1)
    taken = parent.replace("    def step(self):", "    fixed = abs\n\n    def step(self):")
    assert refused(taken, parent) == "a block binds `fixed` anew, which stands outside"


TRY = """def run():
    try:
        found = measure()
    except ValueError:
        raise
    # EVOLVE-BLOCK-START
    extra = 1
    # EVOLVE-BLOCK-END
    return found
"""


@pytest.mark.parametrize("tail", ["    finally:\n        return 42", "    else:\n        found = 42"])
def test_a_block_cannot_go_on_with_a_statement_that_stands_before_it(tail: str) -> None:
    assert refused(TRY.replace("    extra = 1", tail), TRY).startswith("a block reaches out of its marks")


def test_an_import_from_the_future_within_a_block_is_no_business_of_a_block() -> None:
    parent = f"{MARK}x = 1\n{END}\n\ndef run(x: int):\n    return x\n"
    assert refused(parent.replace("x = 1", "from __future__ import annotations"), parent)


@pytest.mark.parametrize(
    "line", ["# -*- coding: utf-7 -*-", "# vim: set fileencoding=unicode_escape :", "#coding=latin-1"]
)
def test_a_text_that_a_file_would_read_otherwise_is_not_plain(line: str) -> None:
    for source in (f"{MARK}{line}\n{END}", f"{line}\n{MARK}{END}"):
        [finding] = look(source.encode(), source, LOOP, BYTES_MAX)
        assert finding.rule == "text_must_be_plain"
    for fine in (
        "# -*- coding: utf-8 -*-",
        "# coding: UTF8",
        "# about decoding: latin-1 follows?"[:10],
        "x = 'coding=ab'",
    ):
        source = f"{MARK}{fine}\n{END}"
        assert look(source.encode(), source, LOOP, BYTES_MAX) == ()
