"""The subject: the same seed gives the same bytes, its own edits favour no value, and it reads nothing unsafe."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keyturn.subjects.connect4 import subject, teach
from keyturn.wire.frames import encode_frame

DECLARED = ("recipe.json", "subject.py", "weights.npz")


def improve(parent: Path, out: Path, *, seed: str = "6001") -> None:
    out.mkdir()
    command = [sys.executable, str(parent / "subject.py"), "improve", "--parent", str(parent), "--out", str(out)]
    subprocess.run(command, check=True, env={"KEYTURN_SEED": seed, "KEYTURN_GENERATION": "0"}, timeout=50)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_founder(founder: Path, tmp_path: Path) -> None:
    teach.found(seed=6, out=tmp_path / "again")
    teach.found(seed=7, out=tmp_path / "other")
    for name in DECLARED:
        assert (tmp_path / "again" / name).read_bytes() == (founder / name).read_bytes()
    assert (tmp_path / "other" / "weights.npz").read_bytes() != (founder / "weights.npz").read_bytes()


def test_the_same_seed_gives_the_same_successor(founder: Path, tmp_path: Path) -> None:
    improve(founder, tmp_path / "a")
    improve(founder, tmp_path / "b")
    improve(founder, tmp_path / "c", seed="6002")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["claim.json", *DECLARED]
    for name in ("claim.json", *DECLARED):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "weights.npz").read_bytes() != (tmp_path / "c" / "weights.npz").read_bytes()
    assert (tmp_path / "a" / "subject.py").read_bytes() == (founder / "subject.py").read_bytes()


def test_a_claim_says_what_was_measured_used_and_changed(founder: Path, tmp_path: Path) -> None:
    improve(founder, tmp_path / "a")
    claim = json.loads((tmp_path / "a" / "claim.json").read_text())
    recipe = json.loads((tmp_path / "a" / "recipe.json").read_text())
    assert 0 <= claim["win_rate_against_parent"] <= 1
    assert claim["match_games"] == subject.MATCH_GAMES
    assert claim["boards_trained"] > claim["self_play_games"] > 0
    assert claim["recipe_changes"] == subject.changes(teach.RECIPE, recipe)


@pytest.mark.slow
def test_a_successor_claims_to_beat_its_parent_and_does_so_on_hidden_games(founder: Path, tmp_path: Path) -> None:
    improve(founder, tmp_path / "a")
    parent, child = (subject.read_weights(path / "weights.npz") for path in (founder, tmp_path / "a"))
    assert subject.match(child, parent, 600, np.random.default_rng(99)) > 0.5


def test_training_moves_values_towards_their_targets() -> None:
    rng = np.random.default_rng(3)
    net = subject.new_weights(rng)
    seen = subject.self_play(net, teach.RECIPE, rng)

    def error() -> float:
        return float(np.mean((subject.worth(net, *seen.boards) - seen.targets) ** 2))

    before = error()
    subject.train(net, seen.boards, seen.targets, 0.002, rng)
    assert error() < 0.8 * before


def test_slopes_are_those_of_the_mean_squared_error() -> None:
    rng = np.random.default_rng(4)
    net = {name: value.astype(np.float64) for name, value in subject.new_weights(rng).items()}
    batch, targets = rng.random((16, subject.INPUTS)), rng.uniform(-1, 1, 16)

    def loss() -> float:
        hidden = np.tanh(batch @ net["w1"] + net["b1"])
        return float(np.mean((np.tanh(hidden @ net["w2"] + net["b2"]) - targets) ** 2))

    slopes = subject._slopes(net, batch, targets)
    for name, place in (("w1", (5, 7)), ("b1", (3,)), ("w2", (9,)), ("b2", (0,))):
        middle = net[name][place]
        net[name][place] = middle + 1e-5
        above = loss()
        net[name][place] = middle - 1e-5
        below = loss()
        net[name][place] = middle
        assert slopes[name][place] == pytest.approx((above - below) / 2e-5, rel=1e-3, abs=1e-9)


def transitions(name: str, draws: int = 4000) -> np.ndarray:
    """How often `mutate` takes one value of a key to another: rows from, columns to."""
    ladder = subject.LADDERS[name]
    rng = np.random.default_rng(11)
    counts = np.zeros((len(ladder), len(ladder)))
    for row, value in enumerate(ladder):
        for _ in range(draws):
            edited = subject.mutate({**teach.RECIPE, name: value}, rng)
            counts[row, ladder.index(edited[name])] += 1
    return counts / draws


@pytest.mark.parametrize("name", ["promise", "games"])
def test_a_mutation_is_as_likely_as_its_reverse_and_steps_by_nothing_on_average(name: str) -> None:
    shares = transitions(name)
    assert np.abs(shares - shares.T).max() < 0.04  # symmetric: no value is favoured in the long run
    places = np.arange(len(shares))
    mean_steps = shares @ places - places
    assert np.abs(mean_steps[1:-1]).max() < 0.04
    # At an end the step outwards is not taken, so that leaving an end is exactly as likely as coming back.
    assert shares[0, 0] == pytest.approx(1 - subject.STEP_SHARE, abs=0.04)
    assert shares[-1, -1] == pytest.approx(1 - subject.STEP_SHARE, abs=0.04)


def test_without_selection_no_promise_weight_is_favoured_in_the_long_run() -> None:
    rng = np.random.default_rng(12)
    recipe, seen = dict(teach.RECIPE), []
    for _ in range(12_000):
        recipe = subject.mutate(recipe, rng)
        seen.append(recipe["promise"])
    assert [seen.count(value) / len(seen) for value in (0, 0.5, 1)] == pytest.approx([1 / 3] * 3, abs=0.04)


def test_an_answer_does_not_depend_on_what_else_is_asked(founder: Path) -> None:
    net = subject.read_weights(founder / "weights.npz")
    mine, taken = subject.random_openings(150, np.random.default_rng(1))
    whole = subject.column_worths(net, mine, taken)
    for size in (1, 37):
        parts = [subject.column_worths(net, mine[i : i + size], taken[i : i + size]) for i in range(0, 150, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_it_answers_blocks_and_leaves_at_goodbye(founder: Path) -> None:
    asked = [{"type": "hello"}, {"type": "ask", "block": 4, "items": [[0, 0], [0, 0]]}, {"type": "bye"}]
    sink = io.BytesIO()
    source = io.BytesIO(b"".join(encode_frame(frame) for frame in asked) + encode_frame({"type": "hello"}))
    subject.answer(founder, source, sink)
    sink.seek(0)
    assert subject.read_frame(sink) == {"type": "ready"}
    answer = subject.read_frame(sink)
    assert answer is not None
    assert (answer["type"], answer["block"]) == ("answer", 4)
    assert answer["outputs"][0] == answer["outputs"][1]
    assert answer["outputs"][0] in range(7)
    assert subject.read_frame(sink) is None


def test_weights_that_hold_objects_are_refused_unread(founder: Path, tmp_path: Path) -> None:
    net = dict(subject.read_weights(founder / "weights.npz"))
    np.savez(tmp_path / "objects.npz", **{**net, "b2": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        subject.read_weights(tmp_path / "objects.npz")


def test_weights_of_another_form_or_not_finite_are_refused(founder: Path, tmp_path: Path) -> None:
    net = subject.read_weights(founder / "weights.npz")
    for name, value in (("b1", np.zeros(47, np.float32)), ("w2", np.full(48, np.nan, np.float32))):
        subject.write_weights(tmp_path / "bad.npz", {**net, name: value})
        with pytest.raises(ValueError, match=f"weights `{name}` are not finite"):
            subject.read_weights(tmp_path / "bad.npz")


def test_a_recipe_off_its_ladders_is_refused(tmp_path: Path) -> None:
    for recipe in ({**teach.RECIPE, "promise": -1}, {**teach.RECIPE, "extra": 1}):
        subject.write_json(tmp_path / "recipe.json", recipe)
        with pytest.raises(ValueError, match="not on its ladder"):
            subject.read_recipe(tmp_path / "recipe.json")


def test_the_subject_stands_alone_and_is_small_enough_to_read() -> None:
    source = Path(subject.__file__).read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported - {"numpy"} <= set(sys.stdlib_module_names)
    assert not imported & {"subprocess", "socket", "ctypes", "shutil", "pickle"}
    assert len(source) < 30_000
