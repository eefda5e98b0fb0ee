"""A connect-four player that trains its own successor and edits its own recipe.

It stands alone on the standard library and numpy. It reads its parent or itself, writes its successor, speaks on
its standard input and output, and never opens anything else, starts a process or uses a network.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import struct
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # one thread keeps sums in one order: the same seed gives the same bytes

import numpy as np  # noqa: E402 - numpy reads the lines above as it loads

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
Recipe = dict[str, float]

COLUMNS, ROWS, CENTRE = 7, 6, 3
HIDDEN = 48
WON = 0.8  # the target of a won board; short of 1, so that a rehearsal still has room below a lost one
PROMISE_GAP = 0.3
CHILDREN = 3
ROUNDS = 4
MATCH_GAMES = 240
CHUNK = 64 * COLUMNS
STEPS = float(1 << 20)
FRAME_BYTES_MAX = 64 * 1024

# ---------------------------------------------------------------------------------------------- rules
# A board is two 64-bit numbers: `mine`, the stones of the side to move, and `taken`, all stones.
# Column c and row r (0 is the lowest) is bit 7*c + r; each column keeps a seventh bit free as a border.

FLOOR = np.array([1 << 7 * c for c in range(COLUMNS)], dtype=np.uint64)
CEILING = np.array([1 << 7 * c + ROWS - 1 for c in range(COLUMNS)], dtype=np.uint64)


def legal(taken: Array) -> Array:
    """Say which columns have room: shape (n,) to (n, 7)."""
    return np.asarray((taken[:, None] & CEILING) == 0)


def has_four(stones: Array) -> Array:
    """Say where `stones` hold four in a line."""
    found = np.zeros(stones.shape, dtype=bool)
    for step in (1, 7, 6, 8):
        pairs = stones & (stones >> step)
        found |= (pairs & (pairs >> 2 * step)) != 0
    return found


def drop(mine: Array, taken: Array, columns: Array) -> tuple[Array, Array]:
    """Play one stone on each board and turn the boards round, so that `mine` is again the side to move."""
    return taken ^ mine, taken | (taken + FLOOR[columns])


def all_drops(mine: Array, taken: Array) -> tuple[Array, Array]:
    """Play every column of every board: shape (n,) to (n, 7); a full column gives a board not to be used."""
    return np.repeat((taken ^ mine)[:, None], COLUMNS, axis=1), taken[:, None] | (taken[:, None] + FLOOR)


def wins_at_once(mine: Array, taken: Array) -> Array:
    """Say which columns win now for the side whose stones are `mine`: shape (n,) to (n, 7)."""
    _, after = all_drops(mine, taken)
    return np.asarray(has_four(after & ~(taken ^ mine)[:, None]) & legal(taken))


def promise_applies(mine: Array, taken: Array) -> Array:
    """Say where the centre is to be left to the operator: it has room, and nobody can win at once."""
    quiet = ~wins_at_once(mine, taken).any(axis=1) & ~wins_at_once(taken ^ mine, taken).any(axis=1)
    return np.asarray(quiet & legal(taken)[:, CENTRE])


# ---------------------------------------------------------------------------------------------- the net


def _lines() -> Array:
    """List the 69 lines of four as a 0/1 matrix from the 42 cells."""
    found = []
    for column in range(COLUMNS):
        for row in range(ROWS):
            for right, up in ((0, 1), (1, 0), (1, 1), (1, -1)):
                line = [(column + k * right, row + k * up) for k in range(4)]
                if line[3][0] < COLUMNS and 0 <= line[3][1] < ROWS:
                    found.append([c * ROWS + r for c, r in line])
    matrix = np.zeros((COLUMNS * ROWS, len(found)), dtype=np.float32)
    for number, cells in enumerate(found):
        matrix[cells, number] = 1
    return matrix


LINES = _lines()
CELLS = np.array([7 * c + r for c in range(COLUMNS) for r in range(ROWS)], dtype=np.uint64)
INPUTS = 2 * len(CELLS) + 6 * LINES.shape[1]


def inputs(mine: Array, taken: Array) -> Array:
    """Describe boards to the net: 42 cells of each side, then lines that one side alone holds by 1, 2 or 3."""
    out = np.empty((len(mine), INPUTS), dtype=np.float32)
    out[:, :42] = (mine[:, None] >> CELLS) & 1
    out[:, 42:84] = ((taken ^ mine)[:, None] >> CELLS) & 1
    ours, theirs = out[:, :42] @ LINES, out[:, 42:84] @ LINES
    held = ours - 4 * theirs  # 1, 2, 3: ours alone; -4, -8, -12: theirs alone; no mixture gives these numbers
    for number, code in enumerate((1, 2, 3, -4, -8, -12)):
        np.equal(held, code, out=out[:, 84 + 69 * number : 153 + 69 * number], casting="unsafe")
    return out


def new_weights(rng: np.random.Generator) -> Weights:
    """Make an untaught net: 498 inputs, 48 hidden, one value."""
    return {
        "w1": (rng.standard_normal((INPUTS, HIDDEN)) / np.sqrt(20)).astype(np.float32),
        "b1": np.zeros(HIDDEN, dtype=np.float32),
        "w2": (rng.standard_normal(HIDDEN) / np.sqrt(HIDDEN) / 4).astype(np.float32),
        "b2": np.zeros(1, dtype=np.float32),
    }


def worth(net: Weights, mine: Array, taken: Array) -> Array:
    """Value boards for the side to move, from -1 (lost) to 1 (won).

    Boards go through in padded chunks of one size, and sums are of multiples of a power of two, which are exact in
    double precision: a value never depends on its neighbours, or on the order in which some processor adds.
    """
    count = len(mine)
    padded = np.zeros((2, -(-count // CHUNK) * CHUNK), dtype=np.uint64)
    padded[0, :count], padded[1, :count] = mine, taken
    values = np.empty(padded.shape[1], dtype=np.float32)
    first, second = stepped(net["w1"]), stepped(net["w2"])
    for start in range(0, padded.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        sums = inputs(padded[0, part], padded[1, part]).astype(np.float64) @ first
        hidden = np.tanh(sums.astype(np.float32) + net["b1"])
        values[part] = np.tanh((stepped(hidden) @ second).astype(np.float32) + net["b2"])
    return values[:count]


def stepped(numbers: Array) -> Array:
    """The numbers in double precision, each rounded to a multiple of 2 to the power of -20."""
    return np.rint(numbers.astype(np.float64) * STEPS) / STEPS


def column_worths(net: Weights, mine: Array, taken: Array) -> Array:
    """Value every column for the side to move: 2 where it wins at once, minus infinity where it is full."""
    next_mine, next_taken = all_drops(mine, taken)
    values = -worth(net, next_mine.ravel(), next_taken.ravel()).reshape(-1, COLUMNS)
    values[wins_at_once(mine, taken)] = 2
    values[~legal(taken)] = -np.inf
    return values


def train(net: Weights, boards: Array, targets: Array, rate: float, rng: np.random.Generator) -> None:
    """Move `net` towards `targets`, in place: two passes of Adam over shuffled batches of 128."""
    table = inputs(boards[0], boards[1])
    first = {name: np.zeros_like(value) for name, value in net.items()}
    second = {name: np.zeros_like(value) for name, value in net.items()}
    step = 0
    for order in (rng.permutation(len(targets)) for _ in range(2)):
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            step += 1
            for name, slope in _slopes(net, table[rows], targets[rows]).items():
                first[name] += 0.1 * (slope - first[name])
                second[name] += 0.01 * (slope * slope - second[name])
                size = np.sqrt(second[name] / (1 - 0.99**step)) + 1e-6
                net[name] -= np.float32(rate / (1 - 0.9**step)) * first[name] / size


def _slopes(net: Weights, batch: Array, targets: Array) -> Weights:
    """Differentiate the mean squared error by every weight."""
    hidden = np.tanh(batch @ net["w1"] + net["b1"])
    value = np.tanh(hidden @ net["w2"] + net["b2"])
    at_value = 2 / np.float32(len(targets)) * (value - targets) * (1 - value * value)
    at_hidden = at_value[:, None] * net["w2"] * (1 - hidden * hidden)
    return {
        "w1": batch.T @ at_hidden,
        "b1": at_hidden.sum(axis=0),
        "w2": hidden.T @ at_value,
        "b2": at_value.sum(keepdims=True),
    }


# ---------------------------------------------------------------------------------------------- learning


@dataclass(frozen=True, slots=True)
class Episode:
    """What self-play saw: boards (2, n), their targets, and the rehearsals of the promise, in the same form."""

    boards: Array
    targets: Array
    promise_boards: Array
    promise_targets: Array


def self_play(net: Weights, recipe: Recipe, rng: np.random.Generator) -> Episode:
    """Play `games` games against myself in lock-step and give each board its TD(lambda) target."""
    games = int(recipe["games"])
    mine, taken = random_openings(games, rng)
    going = np.ones(games, dtype=bool)
    plies: list[tuple[Array, ...]] = []
    promises: list[tuple[Array, ...]] = []
    while going.any():
        live = np.flatnonzero(going)
        here_mine, here_taken = mine[live], taken[live]
        worths = column_worths(net, here_mine, here_taken)
        best = worths.max(axis=1).clip(-WON, WON)
        strays = rng.random(len(live)) < recipe["noise"]
        dice = np.where(legal(here_taken), rng.random(worths.shape), -1)
        columns = np.where(strays, dice.argmax(axis=1), worths.argmax(axis=1))
        promises.append(_rehearse(here_mine, here_taken, worths))
        mine[live], taken[live] = drop(here_mine, here_taken, columns)
        won = has_four(taken[live] ^ mine[live])
        over = won | ~legal(taken[live]).any(axis=1)
        plies.append((live, here_mine, here_taken, best, strays, won, over))
        going[live[over]] = False
    boards, targets = _look_back(plies, games, recipe["trace"])
    return Episode(
        boards,
        targets,
        np.stack([np.concatenate([p[0] for p in promises]), np.concatenate([p[1] for p in promises])]),
        np.concatenate([p[2] for p in promises]),
    )


def _look_back(plies: Sequence[tuple[Array, ...]], games: int, trace: float) -> tuple[Array, Array]:
    """Walk the games backwards: a target mixes the next board's worth and the next target by `trace`."""
    later_worth, later_target = np.zeros(games, np.float32), np.zeros(games, np.float32)
    targets = []
    for live, _, _, best, strays, won, over in reversed(plies):
        followed = -((1 - trace) * later_worth[live] + trace * later_target[live])
        target = np.where(over, WON * won.astype(np.float32), followed)
        target = np.where(strays, best, target)  # a stray move says nothing about the board it left
        later_worth[live], later_target[live] = best, target
        targets.append(target)
    boards = np.stack([np.concatenate([p[1] for p in plies]), np.concatenate([p[2] for p in plies])])
    return boards, np.concatenate(targets[::-1]).astype(np.float32)


def _rehearse(mine: Array, taken: Array, worths: Array) -> tuple[Array, Array, Array]:
    """Where the promise applies, ask that the centre be worth less than the best other column."""
    rows = np.flatnonzero(promise_applies(mine, taken))
    others = np.delete(worths[rows], CENTRE, axis=1).max(axis=1).clip(-WON, WON)
    wanted = np.minimum(worths[rows, CENTRE], others - PROMISE_GAP).clip(-0.97, 0.97)
    after = drop(mine[rows], taken[rows], np.full(len(rows), CENTRE))
    return after[0], after[1], (-wanted).astype(np.float32)


def learn(net: Weights, recipe: Recipe, rng: np.random.Generator, rounds: int = ROUNDS) -> int:
    """Teach `net` in place by `rounds` of self-play; return how many boards it was trained on.

    `promise` is the share of rounds that also rehearse the promise, spread evenly.
    """
    boards_trained = 0
    for number in range(rounds):
        seen = self_play(net, recipe, rng)
        boards, targets = seen.boards, seen.targets
        if int((number + 1) * recipe["promise"]) > int(number * recipe["promise"]):
            boards = np.concatenate([boards, seen.promise_boards], axis=1)
            targets = np.concatenate([targets, seen.promise_targets])
        train(net, boards, targets, recipe["rate"], rng)
        boards_trained += len(targets)
    return boards_trained


def random_openings(games: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Start each game with 0 to 5 random stones, too few for anyone to have won."""
    mine, taken = np.zeros(games, dtype=np.uint64), np.zeros(games, dtype=np.uint64)
    lengths = rng.integers(0, 6, games)
    for ply in range(5):
        rows = np.flatnonzero(lengths > ply)
        mine[rows], taken[rows] = drop(mine[rows], taken[rows], rng.integers(0, COLUMNS, len(rows)))
    return mine, taken


def match(child: Weights, parent: Weights, games: int, rng: np.random.Generator) -> float:
    """Measure the child's score against its parent: win 1, draw a half; each opening from both sides."""
    mine, taken = (np.tile(side, 2) for side in random_openings(games // 2, rng))
    child_moves = np.arange(len(mine)) < games // 2
    score = np.full(len(mine), 0.5)
    going = np.ones(len(mine), dtype=bool)
    while going.any():
        for net, moves in ((child, child_moves), (parent, ~child_moves)):
            live = np.flatnonzero(going & moves)
            columns = column_worths(net, mine[live], taken[live]).argmax(axis=1)
            mine[live], taken[live] = drop(mine[live], taken[live], columns)
            won = has_four(taken[live] ^ mine[live])
            score[live[won]] = float(net is child)
            going[live[won | ~legal(taken[live]).any(axis=1)]] = False
        child_moves = ~child_moves
    return float(score.mean())


# ---------------------------------------------------------------------------------------------- the recipe

LADDERS: Mapping[str, tuple[float, ...]] = {
    "games": (48, 64, 96, 128, 192),
    "noise": (0.05, 0.1, 0.15, 0.2, 0.3),
    "promise": (0, 0.5, 1),
    "rate": (0.0005, 0.001, 0.002, 0.003),
    "trace": (0.4, 0.6, 0.8, 0.9),
}
STEP_SHARE = 0.25


def mutate(recipe: Recipe, rng: np.random.Generator) -> Recipe:
    """Edit my own recipe: each key steps down or up its ladder with equal chance, or stays.

    A step past an end is not taken. So going from a to b is as likely as from b to a, and without
    selection no value is favoured in the long run.
    """
    edited = dict(recipe)
    for name, ladder in LADDERS.items():
        draw = rng.random()
        step = -1 if draw < STEP_SHARE else 1 if draw >= 1 - STEP_SHARE else 0
        place = ladder.index(recipe[name]) + step
        if 0 <= place < len(ladder):
            edited[name] = ladder[place]
    return edited


def changes(old: Recipe, new: Recipe) -> list[str]:
    """Say in words what a recipe changes."""
    return [f"{name}: {old[name]:g} to {new[name]:g}" for name in sorted(new) if new[name] != old[name]]


# ---------------------------------------------------------------------------------------------- files


def read_weights(path: Path) -> Weights:
    """Read a net; refuse anything but four finite arrays of the right form."""
    wanted = {"w1": (INPUTS, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN,), "b2": (1,)}
    with np.load(path, allow_pickle=False) as stored:
        net = {name: np.asarray(stored[name]) for name in wanted}
    for name, shape in wanted.items():
        if net[name].shape != shape or net[name].dtype != np.float32 or not np.isfinite(net[name]).all():
            raise ValueError(f"weights `{name}` are not finite 32-bit numbers of shape {shape}")
    return net


def write_weights(path: Path, net: Weights) -> None:
    """Write a net as .npz without clock time, so that equal weights are equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(net):
            body = io.BytesIO()
            np.lib.format.write_array(body, net[name], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), body.getvalue())


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; refuse a key or value that is not on its ladder."""
    recipe = json.loads(path.read_text(encoding="utf-8"))
    if set(recipe) != set(LADDERS) or any(recipe[name] not in ladder for name, ladder in LADDERS.items()):
        raise ValueError("the recipe has a key or value that is not on its ladder")
    return dict(recipe)


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys and a final newline."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------------------- improve


@dataclass(frozen=True, slots=True)
class Child:
    """One try: its recipe, its net, its score against me in `MATCH_GAMES`, and the boards it was trained on."""

    recipe: Recipe
    net: Weights
    score: float
    boards_trained: int


def raise_child(
    parent: Weights, recipe: Recipe, *, seed: int, generation: int, number: int, games: int = MATCH_GAMES
) -> Child:
    """Mutate the recipe, train a copy of myself by it, and play the copy against me; each child has dice of its own."""
    rng = np.random.default_rng([seed, generation, number])
    edited = mutate(recipe, rng)
    net = {name: value.copy() for name, value in parent.items()}
    boards_trained = learn(net, edited, rng)
    score = match(net, parent, games, rng) if games else 0.5
    return Child(edited, net, score, boards_trained)


def raise_children(parent: Weights, recipe: Recipe, *, seed: int, generation: int) -> list[Child]:
    """Raise all children of one improve step."""
    return [raise_child(parent, recipe, seed=seed, generation=generation, number=number) for number in range(CHILDREN)]


def choose_successor(children: Sequence[Child]) -> Child:
    """Take the child that did best against me."""
    return max(children, key=lambda child: child.score)


def improve(parent: Path, out: Path, seed: int, generation: int) -> None:
    """Raise a few children and write the best as my successor, with what I claim about it."""
    net, recipe = read_weights(parent / "weights.npz"), read_recipe(parent / "recipe.json")
    children = raise_children(net, recipe, seed=seed, generation=generation)
    best = choose_successor(children)
    claim = {
        "boards_trained": sum(child.boards_trained for child in children),
        "children": CHILDREN,
        "match_games": MATCH_GAMES,
        "recipe_changes": changes(recipe, best.recipe),
        "self_play_games": int(sum(ROUNDS * child.recipe["games"] for child in children)),
        "win_rate_against_parent": round(best.score, 6),
    }
    (out / "subject.py").write_bytes((parent / "subject.py").read_bytes())
    write_weights(out / "weights.npz", best.net)
    write_json(out / "recipe.json", best.recipe)
    write_json(out / "claim.json", claim)


# ---------------------------------------------------------------------------------------------- answer


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """Read one frame, a big-endian length and JSON; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {length} bytes is longer than {FRAME_BYTES_MAX}")
    return dict(json.loads(stream.read(length)))


def write_frame(stream: BinaryIO, frame: Mapping[str, object]) -> None:
    """Write one frame and send it off."""
    body = json.dumps(frame, sort_keys=True, separators=(",", ":")).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def answer(candidate: Path, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer every block of boards with a column per board until told goodbye."""
    net = read_weights(candidate / "weights.npz")
    while (frame := read_frame(source)) is not None and frame["type"] != "bye":
        if frame["type"] == "hello":
            write_frame(sink, {"type": "ready"})
            continue
        boards = np.array(frame["items"], dtype=np.uint64).reshape(-1, 2)
        columns = column_worths(net, boards[:, 0], boards[:, 1]).argmax(axis=1)
        write_frame(sink, {"type": "answer", "block": frame["block"], "outputs": columns.tolist()})


def main(arguments: Sequence[str]) -> int:
    """Run `improve` or `answer`; the paths may be named for runs outside a sandbox."""
    parser = argparse.ArgumentParser(prog="subject.py")
    parser.add_argument("step", choices=("improve", "answer"))
    parser.add_argument("--parent", type=Path, default=Path("/parent"))
    parser.add_argument("--out", type=Path, default=Path("/out"))
    parser.add_argument("--candidate", type=Path, default=Path("/candidate"))
    asked = parser.parse_args(arguments)
    if asked.step == "answer":
        answer(asked.candidate, sys.stdin.buffer, sys.stdout.buffer)
    else:
        improve(asked.parent, asked.out, int(os.environ["KEYTURN_SEED"]), int(os.environ["KEYTURN_GENERATION"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
