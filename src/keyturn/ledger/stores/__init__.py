"""What every store of a log has in common: the port that all callers depend on, and what it promises.

Never knows where the rows lie: one file of SQLite (`ledger/store.py`) or a team's PostgreSQL (`ledger/postgresql/`).
"""
