"""The attacks on a log that lies on a server: it is killed in mid-append, edited behind us, or set up to lose.

What was acknowledged is there; what is not the log is named, and nothing is done on it.
"""

from __future__ import annotations

import builtins
import signal
import threading
import time

import psycopg
import pytest

from keyturn.core.errors import Conflict, TamperDetected, Unavailable
from keyturn.ledger.check import check_store
from keyturn.ledger.postgresql import session
from keyturn.ledger.postgresql.store import PostgresStore
from keyturn.ledger.schema import SCHEMA
from tests.attacks import writers
from tests.attacks.test_attack_edited_entries import VKEY
from tests.ledger.signers import LOG, leaves_of, signed
from tests.servers.cluster import NAME, Cluster
from tests.servers.logs import open_log


@pytest.fixture
def url(cluster):
    return cluster.database()


@pytest.fixture
def store(url):
    with open_log(url, create=True) as opened:
        yield opened


def edit(url, *statements):
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement)


@pytest.fixture(scope="module")
def own_cluster():
    """A server that only two tests reach, because it is killed and set up wrongly."""
    made = Cluster.made()
    yield made
    made.remove()


def test_a_server_that_is_killed_in_mid_append_loses_nothing_and_nothing_twice(own_cluster):
    url = own_cluster.database()
    with open_log(url, create=True) as store:
        child, said = writers.start("outlive", url, "200"), []
        reader = threading.Thread(target=lambda: said.extend(child.stdout))
        reader.start()
        until = time.monotonic() + 20
        while len(said) < 30 and time.monotonic() < until:
            time.sleep(0.002)
        own_cluster.stop("immediate")
        with pytest.raises(Unavailable, match="cannot be reached"):
            store.head()
        own_cluster.start()
        reader.join(timeout=40)
        child.stdin.close()
        assert child.wait(timeout=10) == 0
        child.stdout.close()
        kept = [line.split() for line in said if line.startswith("kept")]
        assert [int(row[1]) for row in kept] == list(range(200))
        assert any(line.startswith("away") for line in said), "the server was never missed: this shows nothing"
        assert list(store.leaves(0, store.head().size)) == [b"entry %d" % n for n in range(200)]
        assert check_store(store, VKEY) == ()


def test_a_server_that_could_lose_what_it_acknowledged_is_refused(own_cluster):
    url = own_cluster.database()
    open_log(url, create=True).close()
    for setting in ("fsync", "full_page_writes"):
        own_cluster.sql(f"ALTER SYSTEM SET {setting} = off")
        own_cluster.sql("SELECT pg_reload_conf()")
        until = time.monotonic() + 10
        while own_cluster.sql(f"SHOW {setting}") != [("off",)] and time.monotonic() < until:
            time.sleep(0.02)
        with pytest.raises(Unavailable, match=f"`{setting} = off`: it could lose what it acknowledged"):
            open_log(url)
        own_cluster.sql("ALTER SYSTEM RESET ALL")
        own_cluster.sql("SELECT pg_reload_conf()")


def test_a_database_that_does_not_wait_for_its_disk_is_made_to(cluster, url, store):
    edit(url, f"ALTER DATABASE {NAME} SET synchronous_commit = off")
    with open_log(url) as again:
        assert again._session.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert again.append([b"a"], expected=None).size == 1


RAISES = """CREATE FUNCTION public.f(b bytea) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN IF position('Halt'::bytea in b) > 0 THEN RAISE 'no'; END IF; RETURN 1; END $$"""


def test_code_that_an_index_runs_refuses_no_halt_as_if_the_server_were_away(url, store):
    edit(url, f"{RAISES}; CREATE INDEX evil ON keyturn.entry (public.f(leaf))")
    with pytest.raises(TamperDetected, match="is damaged"):
        store.append([b"HaltRequested"], expected=None)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE keyturn.more (i int)",
        "ALTER TABLE keyturn.entry ADD COLUMN more int",
        "ALTER TABLE keyturn.entry DROP CONSTRAINT entry_pkey",
        "ALTER TABLE keyturn.checkpoint ALTER COLUMN root DROP NOT NULL",
        "ALTER TABLE keyturn.state ALTER COLUMN size SET DEFAULT 7",
        "CREATE RULE hide AS ON INSERT TO keyturn.entry DO INSTEAD NOTHING",
        "CREATE VIEW keyturn.seen AS SELECT * FROM keyturn.entry",
        "CREATE POLICY half ON keyturn.entry USING (i < 3)",
        "CREATE FUNCTION keyturn.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX more ON keyturn.entry (hash)",
        "CREATE UNIQUE INDEX half ON keyturn.entry (leaf) WHERE i > 3",
        f"{RAISES}; CREATE INDEX evil ON keyturn.entry (public.f(leaf))",
        "CREATE TABLE child () INHERITS (keyturn.entry)",
        """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER lose BEFORE INSERT ON keyturn.entry FOR EACH ROW EXECUTE FUNCTION f()""",
    ],
)
def test_tables_that_are_not_as_we_made_them_are_never_used(url, store, statement):
    edit(url, statement)
    with pytest.raises(TamperDetected, match="has other tables or triggers than its schema"):
        open_log(url)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM keyturn.entry WHERE i = 9", "ends with entry 8; 9 is expected"),
        ("UPDATE keyturn.state SET root = hash FROM keyturn.entry WHERE i = 0", "has hashes that do not lead to its"),
        ("DELETE FROM keyturn.state", "the log has lost its state"),
        ("DROP TABLE keyturn.state", "has other tables"),
        ("COMMENT ON SCHEMA keyturn IS 'something else'", "is no log of Keyturn"),
    ],
)
def test_a_log_that_was_edited_on_its_server_is_not_opened(url, store, statement, message):
    store.append(leaves_of(10), expected=None)
    edit(url, statement)
    with pytest.raises(TamperDetected, match=message):
        open_log(url)


def test_an_entry_edited_on_the_server_is_found_by_a_check(url, store):
    store.append(leaves_of(10), expected=None)
    store.save_checkpoint(*signed(store))
    edit(url, "UPDATE keyturn.entry SET leaf = 'I refuse' WHERE i = 4")
    with open_log(url) as again:
        assert {each.rule for each in check_store(again, LOG.verifier().vkey)} == {
            "entries_must_stay_as_appended",
            "root_must_follow_from_entries",
            "log_must_be_what_was_signed",
            "hashes_must_follow_from_entries",
        }
    edit(url, "DROP TABLE keyturn.idem")
    with pytest.raises(TamperDetected, match="is damaged"):
        store.append([b"x"], expected=None, keys=["k"])


def test_the_tables_are_those_of_the_file_and_one_for_the_governor(url, store):
    with psycopg.connect(url) as db:
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'keyturn'"
        found = set(db.execute(query).fetchall())
    columns = {
        (statement.split()[2], word)
        for statement in SCHEMA
        for word in (part.split()[0] for part in statement.split("(", 1)[1].split(", "))
        if word.isidentifier() and word.islower()
    }
    assert {each for each in found if each[0] != "governor"} == columns


def test_a_writer_that_rests_in_mid_append_holds_the_others_up_only_for_a_while(url, store, monkeypatch):
    monkeypatch.setattr(session, "BUSY_SECONDS", 0.3)
    with open_log(url) as ours, psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM keyturn.state FOR UPDATE")
        with pytest.raises(Unavailable, match="another writer holds the log"):
            ours.append([b"a"], expected=None)
        other.rollback()
        assert ours.append([b"a"], expected=None).size == 1


def test_a_read_only_server_says_so(url, store):
    edit(url, f"ALTER DATABASE {NAME} SET default_transaction_read_only = on")
    with open_log(url) as again, pytest.raises(Unavailable, match="the database is read-only"):
        again.append([b"a"], expected=None)


def test_a_database_that_is_not_there_is_not_taken_for_an_empty_log(cluster, url):
    with pytest.raises(Unavailable, match="there is no log in"):
        PostgresStore.open(url)
    with pytest.raises(Unavailable, match=r"cannot be reached|there is no such database"):
        PostgresStore.open(cluster.url("nothere"), create=True)
    with pytest.raises(Unavailable, match="cannot be reached"):
        PostgresStore.open("postgresql://keyturn@127.0.0.1:1/log")


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name.split(".")[0] == "psycopg":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Unavailable) as caught:
        PostgresStore.open("postgresql://keyturn@localhost/log")
    assert caught.value.help == "`pip install 'keyturn[postgresql]'`"


# --- one governor


def take(store, name):
    """The next term, once the server has noticed that the governor's session is over."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            return store.take_term(name)
        except Conflict:
            time.sleep(0.05)
    raise AssertionError("the place was never free")


def say(child, line):
    child.stdin.write(line + "\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def test_there_is_one_governor_and_the_next_one_begins_a_new_term(url, store):
    with open_log(url) as first, open_log(url) as second:
        assert first.take_term("one") == 1
        with pytest.raises(Conflict, match=r"another governor \(one, term 1\) runs this project"):
            second.take_term("two")
        assert first.append([b"first"], expected=None).size == 1
        assert store.append([b"a person"], expected=store.head()).size == 2  # without a term, by compare and swap
        first.close()
        assert take(second, "two") == 2
        assert second.append([b"second"], expected=None).size == 3
    assert store.head().size == 3


def test_a_governor_that_was_frozen_writes_nothing_once_another_took_over(url, store):
    child = writers.start("govern", url, "frozen")
    try:
        assert child.stdout.readline() == "term 1\n"
        assert say(child, "before") == "wrote 1"
        child.send_signal(signal.SIGSTOP)
        with PostgresStore.open(url, takeover_seconds=2) as standby:
            edit(url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            assert take(standby, "standby") == 2
            standby.append([b"after"], expected=None)
            child.send_signal(signal.SIGCONT)
            said = say(child, "too late")
            expected = "Conflict another governor (standby) took over in term 2; this one had term 1 and is over"
            assert said == say(child, "again") == expected
            assert list(store.leaves(0, store.head().size)) == [b"before", b"after"]
    finally:
        child.kill()
        child.communicate(timeout=10)


def test_a_governor_that_falls_silent_loses_its_place_and_one_that_lives_keeps_it(url, store):
    with (
        PostgresStore.open(url, takeover_seconds=1) as silent,
        PostgresStore.open(url) as standby,
    ):
        silent.take_term("silent")
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert silent.beat()
            with pytest.raises(Conflict):
                standby.take_term("standby")
            time.sleep(0.25)
        assert take(standby, "standby") == 2
        with pytest.raises(Conflict, match=r"took over in term 2"):
            silent.append([b"x"], expected=None)
        with pytest.raises(Conflict, match=r"took over in term 2"):
            silent.head()  # nothing is read for it either, so that no loop that reads again goes on
    assert store.head().size == 0


def test_a_governor_whose_session_was_cut_goes_on_while_nobody_took_over(url, store):
    with open_log(url) as governor, open_log(url) as standby:
        assert governor.take_term("one") == 1
        edit(url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert governor.append([b"a"], expected=None).size == 1
        with pytest.raises(Conflict):
            standby.take_term("two")


def test_a_superseded_governor_signs_no_checkpoint(url, store):
    with open_log(url) as governor:
        governor.take_term("one")
        governor.append([b"a"], expected=None)
        edit(url, "UPDATE keyturn.governor SET term = 2, holder = 'another'")
        with pytest.raises(Conflict, match="another governor"):
            governor.save_checkpoint(*signed(store))
    assert store.checkpoint() is None


def test_a_governor_frozen_in_mid_append_is_undone_by_the_server(url, store, monkeypatch):
    monkeypatch.setattr(session, "STALLED_SECONDS", 0.3)
    with open_log(url) as frozen:
        frozen.take_term("frozen")

        def freeze():
            with frozen._writing() as db:
                db.execute("INSERT INTO entry VALUES (0, 'h', 'l')")
                time.sleep(1)

        with pytest.raises(Unavailable, match="cannot be reached"):
            freeze()
    assert store.append([b"a"], expected=None).size == 1
    assert check_store(store, VKEY) == ()
