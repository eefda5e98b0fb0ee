"""The tables of a team's log, and how a database that holds anything else is told from it.

The tables are those of the file (`ledger/schema.py`), and one more for the governor's term.
"""

from __future__ import annotations

from keyturn.core.errors import TamperDetected
from keyturn.ledger.rows import Database

SCHEMA = "keyturn"
"""All tables lie in a schema of this name, so that a database may hold other things beside the log."""

LAYOUT = "KTL1"
"""Keyturn's log, first layout: what the comment on the schema says."""

LOCK = 0x4B54_4C31
"""The number of the advisory lock that the governor's session holds; one log, one database, one number."""

TABLES = (
    "CREATE TABLE entry (i BIGINT PRIMARY KEY, hash BYTEA NOT NULL, leaf BYTEA NOT NULL)",
    "CREATE TABLE node (level SMALLINT, n BIGINT, hash BYTEA NOT NULL, PRIMARY KEY (level, n))",
    'CREATE TABLE idem (key TEXT COLLATE "C" PRIMARY KEY, i BIGINT NOT NULL)',
    "CREATE TABLE checkpoint (size BIGINT PRIMARY KEY, root BYTEA NOT NULL, note BYTEA NOT NULL)",
    "CREATE TABLE state (id SMALLINT PRIMARY KEY, size BIGINT NOT NULL, root BYTEA NOT NULL, frontier BYTEA)",
    "CREATE TABLE governor (id SMALLINT PRIMARY KEY, term BIGINT NOT NULL, holder TEXT NOT NULL)",
)

_COLUMNS = {
    "entry": "i bigint!, hash bytea!, leaf bytea!",
    "node": "level smallint!, n bigint!, hash bytea!",
    "idem": "key text!, i bigint!",
    "checkpoint": "size bigint!, root bytea!, note bytea!",
    "state": "id smallint!, size bigint!, root bytea!, frontier bytea",
    "governor": "id smallint!, term bigint!, holder text!",
}
_KEYS = {"entry": "i", "node": "level, n", "idem": "key", "checkpoint": "size", "state": "id", "governor": "id"}

_INDEXES = {f"CREATE UNIQUE INDEX {table}_pkey ON keyturn.{table} USING btree ({key})" for table, key in _KEYS.items()}
"""What the server itself says of the index under each key; an index beside them may run code at each insert."""

_FOUND = """
    SELECT format('%s %s: %s', c.relkind, c.relname, string_agg(
        a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN '!' ELSE '' END
        || CASE WHEN a.atthasdef THEN '=' ELSE '' END, ', ' ORDER BY a.attnum))
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'keyturn'::regnamespace AND c.relkind <> 'i' GROUP BY c.relkind, c.relname
    UNION ALL SELECT format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace = 'keyturn'::regnamespace AND contype <> 'n'
    UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid
        WHERE c.relnamespace = 'keyturn'::regnamespace
    UNION ALL SELECT format('trigger %s', tgname) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
        WHERE c.relnamespace = 'keyturn'::regnamespace
    UNION ALL SELECT format('rule %s', rulename) FROM pg_rules WHERE schemaname = 'keyturn'
    UNION ALL SELECT format('policy %s', policyname) FROM pg_policies WHERE schemaname = 'keyturn'
    UNION ALL SELECT format('function %s', proname) FROM pg_proc WHERE pronamespace = 'keyturn'::regnamespace
    UNION ALL SELECT format('child %s', inhrelid::regclass) FROM pg_inherits JOIN pg_class c ON c.oid = inhparent
        WHERE c.relnamespace = 'keyturn'::regnamespace
"""


def layout(db: Database) -> str | None:
    """What the comment on the log's schema says; None where there is no such schema."""
    query = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = ?"
    row = db.execute(query, (SCHEMA,)).fetchone()
    return None if row is None else str(row[0])


def create(db: Database) -> None:
    """Make the empty tables, within a transaction of the caller's."""
    db.execute(f"CREATE SCHEMA {SCHEMA}")
    for statement in TABLES:
        db.execute(statement)
    db.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{LAYOUT}'")


def require_expected(db: Database, name: str) -> None:
    """Raise TamperDetected when the schema holds other tables, indexes, triggers or functions than it was made with."""
    expected = {f"r {table}: {columns}" for table, columns in _COLUMNS.items()}
    expected |= {f"{table}: PRIMARY KEY ({key})" for table, key in _KEYS.items()}
    expected |= _INDEXES
    found = {str(row[0]) for row in db.execute(_FOUND)}
    if found != expected:
        first = min(found ^ expected)
        message = f"{name} has other tables or triggers than its schema: `{first[:120]}`"
        raise TamperDetected(message, help="restore the database from a copy and compare both")
