"""The admission rules: what refuses a program, in which order, and in which words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from keyturn.core.admission import ALIVE, NOT_RUN, Program, judge, look, outside, protected
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.policy import Loop
from keyturn.core.terms import Json
from tests.core.examples import digest

LOOP = Loop("program.py", "evolve-blocks", 50, 60)
FREE = replace(LOOP, protect="nothing")
GOOD = Program(digest("p"), 100, metrics={"combined_score": 0.5})
BLOCKS = "import math\n# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\nprint(x)\n"


def found(program: Program) -> list[tuple[str, str]]:
    return [(finding.rule, finding.message) for finding in judge(program, LOOP, 1000)]


def test_a_program_that_ran_well_and_scored_is_admitted() -> None:
    assert found(GOOD) == []
    assert found(replace(GOOD, metrics={"score": 0, "note": "fine", "stage": True, "error": None})) == []


@pytest.mark.parametrize(
    ("program", "rule", "message"),
    [
        (replace(GOOD, bytes=1001), "size_must_fit", "the program has 1001 bytes; 1 to 1000 are expected"),
        (replace(GOOD, bytes=0), "size_must_fit", "the program has 0 bytes; 1 to 1000 are expected"),
        (replace(GOOD, ended="wall"), "program_must_run", "the program was not alive when it was judged: wall"),
        (
            replace(GOOD, ended="worker-gone"),
            "program_must_run",
            "the program was not alive when it was judged: worker-gone",
        ),
        (replace(GOOD, fault="ValueError: x"), "program_must_run", "its evaluation broke off: ValueError: x"),
        (replace(GOOD, decoys=("vault",)), "conduct_must_be_clean", "it touched the decoy `vault`"),
        (
            replace(GOOD, processes=2),
            "conduct_must_be_clean",
            "2 process(es) of its own were there when it was judged",
        ),
        (
            replace(GOOD, signals=("environment:OPENAI_API_KEY",)),
            "conduct_must_be_clean",
            "it reached for `environment:OPENAI_API_KEY`",
        ),
        (replace(GOOD, metrics={}), "score_must_be_a_number", "no metric is a number"),
        (replace(GOOD, metrics={"done": True}), "score_must_be_a_number", "no metric is a number"),
        (replace(GOOD, metrics={"said": "0.9"}), "score_must_be_a_number", "no metric is a number"),
        (
            replace(GOOD, metrics={"a": 1.0, "error": 0.0}),
            "score_must_be_a_number",
            "the evaluator reports an error: 0.0",
        ),
        (
            replace(GOOD, metrics={"a": 1.0, "timeout": True}),
            "score_must_be_a_number",
            "the evaluator reports that its time ran out",
        ),
        (replace(GOOD, reasons=("no search",)), "checks_must_pass", "a check refused it: no search"),
    ],
)
def test_a_single_thing_that_is_wrong_refuses(program: Program, rule: str, message: str) -> None:
    assert found(program) == [(rule, message)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "NaN", "inf", "-Infinity", " +inf "])
def test_a_number_that_is_none_refuses_whatever_stands_beside_it(value: Json) -> None:
    [(rule, message)] = found(replace(GOOD, metrics={"score": 1.0, "spread": value}))
    assert rule == "score_must_be_a_number"
    assert message == f"`spread` is `{value}`; a finite number is expected"


def test_findings_keep_the_order_of_the_rules_and_none_hides_another() -> None:
    bad = Program(
        digest("p"),
        5000,
        text=(Finding("text_must_be_plain", "odd", ""), Finding("protected_text_must_stand", "moved", "")),
        ended="memory",
        processes=1,
        decoys=("exam",),
        signals=("socket",),
        metrics={"error": "x"},
        reasons=("a", "b"),
    )
    assert [rule for rule, _ in found(bad)] == [
        "size_must_fit",
        "text_must_be_plain",
        "protected_text_must_stand",
        "program_must_run",
        "conduct_must_be_clean",
        "conduct_must_be_clean",
        "conduct_must_be_clean",
        "score_must_be_a_number",
        "score_must_be_a_number",
        "checks_must_pass",
        "checks_must_pass",
    ]


def test_a_text_that_was_refused_is_told_by_its_text_alone() -> None:
    unrun = Program(digest("p"), 100, (Finding("text_must_be_plain", "odd", ""),), NOT_RUN)
    assert found(unrun) == [("text_must_be_plain", "odd")]
    assert found(Program(digest("p"), 10**7, (), NOT_RUN))[0][0] == "size_must_fit"


def test_a_program_that_was_not_run_for_no_reason_is_refused_all_the_same() -> None:
    assert ("program_must_run", "the program was not alive when it was judged: not-run") in found(
        replace(GOOD, ended=NOT_RUN)
    )


def test_only_one_word_says_that_a_program_was_well() -> None:
    for word in ("", "alive ", "Alive", "exited", "lost", "lease", "halted"):
        assert found(replace(GOOD, ended=word))
    assert not found(replace(GOOD, ended=ALIVE))


def test_what_others_said_is_cut_to_what_can_be_shown() -> None:
    loud = replace(GOOD, fault="x" * 5000, reasons=("y" * 5000,), signals=("z" * 5000,))
    assert all(len(message) < 300 for _, message in found(loud))


# The text, before anything runs


def rules(data: bytes, loop: Loop = FREE) -> list[str]:
    return [finding.rule for finding in look(data, BLOCKS, loop, 1000)]


@pytest.mark.parametrize("text", ["x = 1\n", "x = 1", "\tx\r\n", "s = 'é ☃ 日本 🦀'\n", "\fx = 1\n", "# \u200b\n"])
def test_what_an_editor_saves_is_plain(text: str) -> None:
    assert rules(text.encode()) == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"x = 1\x00\n", "it holds U+0000 at character 5"),
        (b"\x1b[2J", "it holds U+001B at character 0"),
        (b"x\x0by", "it holds U+000B at character 1"),
        (b"x\x1cy", "it holds U+001C at character 1"),
        ("x\x85y".encode(), "it holds U+0085 at character 1"),
        ("x\u2028y".encode(), "it holds U+2028 at character 1"),
        ("a = '\u202e'".encode(), "it holds U+202E at character 5"),
        ("a\u2066b".encode(), "it holds U+2066 at character 1"),
        ("\ufeffx = 1".encode(), "it holds U+FEFF at character 0"),
        (b"\xff\xfex", "byte 0 is no part of UTF-8 text"),
        (b"x = '\xed\xa0\x80'", "byte 5 is no part of UTF-8 text"),
        (b"x = '\xc0\xaf'", "byte 5 is no part of UTF-8 text"),
    ],
)
def test_what_could_hide_a_line_or_a_mark_is_not_plain(data: bytes, what: str) -> None:
    [finding] = look(data, BLOCKS, FREE, 1000)
    assert (finding.rule, finding.message) == ("text_must_be_plain", f"the program is not plain text: {what}")


def test_a_text_of_the_wrong_size_is_not_looked_at_any_further() -> None:
    assert rules(b"") == ["size_must_fit"]
    assert rules(b"\x00" * 1001) == ["size_must_fit"]
    assert rules(b"\x00" * 1000) == ["text_must_be_plain"]


# What lies outside the marks


def test_what_lies_outside_is_everything_but_the_blocks_and_holds_the_marks() -> None:
    assert outside(BLOCKS) == (
        "import math\n# EVOLVE-BLOCK-START",
        "# EVOLVE-BLOCK-END\nprint(x)",
    )
    assert outside("x = 1\n\n") == ("x = 1",)
    assert outside("") == ("",)


def test_blanks_at_the_ends_of_lines_and_the_kind_of_line_end_say_nothing() -> None:
    assert outside(BLOCKS.replace("\n", "  \r\n")) == outside(BLOCKS)
    assert outside(BLOCKS.replace("\n", "\r")) == outside(BLOCKS)
    assert outside(BLOCKS + "\n\n") == outside(BLOCKS) == outside(BLOCKS.rstrip("\n"))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("# EVOLVE-BLOCK-START\n", "the last block is never ended"),
        ("# EVOLVE-BLOCK-END\n", "line 1 ends a block that was not begun"),
        ("# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-START\n", "line 2 begins a block within a block"),
        ("x = 1  # EVOLVE-BLOCK-START\n", "line 1 names a mark but is none"),
        ("# EVOLVE-BLOCK-START here\n", "line 1 names a mark but is none"),
        ("'EVOLVE-BLOCK-END'\n", "line 1 names a mark but is none"),
    ],
)
def test_marks_that_are_out_of_order_are_malformed(source: str, what: str) -> None:
    with pytest.raises(MalformedInput) as refused:
        outside(source)
    assert refused.value.message == what


def test_what_stands_between_the_marks_may_change() -> None:
    for inside in ("x = 2", "", "def f():\n    return 'EVOLVE'\nx = f()", "class X:\n    pass\n\nx = X()", "import os"):
        assert protected(BLOCKS.replace("x = 1", inside), BLOCKS, LOOP) == ()


def test_a_parent_without_marks_is_protected_as_a_whole() -> None:
    [finding] = protected("x = 2\n", "x = 1\n", LOOP)
    assert finding.message == "the parent has no evolve block, so nothing in it may be changed"
    assert protected("x = 2\n", "x = 1\n", FREE) == ()


def test_a_change_outside_is_named_by_its_place() -> None:
    [before] = protected(BLOCKS.replace("import math", "import os"), BLOCKS, LOOP)
    [after] = protected(BLOCKS.replace("print(x)", "print(9)"), BLOCKS, LOOP)
    assert before.message == "what lies before block 1 differs from the parent"
    assert after.message == "what lies after block 1 differs from the parent"
    assert before.rule == after.rule == "protected_text_must_stand"


def test_a_comment_outside_is_protected_too() -> None:
    parent = BLOCKS + "# the measure: do not touch\n"
    [finding] = protected(parent.replace("do not touch", "feel free"), parent, LOOP)
    assert finding.message == "what lies after block 1 differs from the parent"


def test_a_block_within_a_function_may_change_and_its_surroundings_may_not() -> None:
    parent = (
        "def run(n):\n    total = 0\n    for i in range(n):\n        # EVOLVE-BLOCK-START\n        total += i\n"
        "        # EVOLVE-BLOCK-END\n    return total\n"
    )
    assert protected(parent.replace("total += i", "total += 2 * i"), parent, LOOP) == ()
    assert protected(parent.replace("return total", "return 9"), parent, LOOP)
