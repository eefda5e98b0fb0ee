"""A decoy that is touched is seen from outside; one that is left alone raises no alarm."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.sandbox.decoys import HEADER, OVERFLOWED, Decoys
from keyturn.sandbox.port import Decoy, DecoyOpened, Limits
from tests.sandbox.conftest import Inside

pytestmark = pytest.mark.root
BOTH = (Decoy("weights", "/secrets/weights.npz", b"pretend"), Decoy("key", "/secrets/key", b"-----"))


@pytest.mark.parametrize(
    ("act", "how"),
    [
        ("open('/secrets/key').read()", {"opened"}),
        ("open('/secrets/key', 'w').close()", {"opened", "written"}),
        ("open('/secrets/key', 'a').write('x')", {"opened", "written"}),
        ("import os; os.truncate('/secrets/key', 0)", {"written"}),
        ("import os; os.chmod('/secrets/key', 0o777)", {"written"}),
    ],
)
def test_each_way_of_touching_a_decoy_is_seen(inside: Inside, act: str, how: set[str]) -> None:
    end = inside.run(act, decoys=BOTH)
    assert end.code == 0, end
    assert {event.how for event in end.decoys} == how
    assert {event.name for event in end.decoys} == {"key"}
    assert not end.clean


def test_a_decoy_left_alone_raises_no_alarm(inside: Inside) -> None:
    running = inside.start("import os; os.stat('/secrets/key'); print(1)", decoys=BOTH)
    end = running.wait()
    assert end.decoys == ()
    assert end.clean


def test_a_decoy_shows_its_content(inside: Inside) -> None:
    end = inside.run("print(open('/secrets/weights.npz').read())", decoys=BOTH)
    assert end.diagnostics == b"pretend\n"


def test_the_caller_hears_of_it_at_once(inside: Inside) -> None:
    running = inside.start("open('/secrets/key').close(); import time; time.sleep(30)", decoys=BOTH)
    assert select.select([running.decoy_fd], [], [], 5)[0]
    assert running.decoys()[:1] == (DecoyOpened("key", "opened"),)
    assert running.wait(on_tick=lambda: not running.decoys()).reason == "halted"


def test_a_decoy_cannot_fill_the_disk_of_the_host(inside: Inside) -> None:
    end = inside.run(
        "open('/secrets/key', 'wb').write(bytes(3 << 20))", decoys=BOTH, limits=Limits(file_bytes_max=1 << 20)
    )
    assert end.code == 1


def test_the_files_of_decoys_go_away(inside: Inside) -> None:
    running = inside.start("pass", decoys=BOTH)
    folder = running._cell.folder
    running.wait()
    running.close()
    assert not folder.exists()


def test_a_decoy_within_a_place_of_ours_is_refused(inside: Inside) -> None:
    with pytest.raises(MalformedInput):
        inside.park("", decoys=(Decoy("x", "/runtime/x"),))


def test_a_flood_that_overflows_counts_as_every_decoy_written(tmp_path: Path) -> None:
    decoys = Decoys(tmp_path / "decoys", BOTH, None)
    decoys.arm()
    decoys._take(HEADER.pack(OVERFLOWED, 0x4000, 0, 0))
    assert set(decoys.look()) == {DecoyOpened("weights", "written"), DecoyOpened("key", "written")}
    decoys.close()
