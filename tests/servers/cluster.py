"""A PostgreSQL cluster of our own: made, started, killed and started again by a test, and never anybody else's."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

START_SECONDS = 30
NAME = "log"


def binaries() -> Path | None:
    """Where the newest server of this machine lies; Debian keeps it out of the search path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[-3]))
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside).parent if beside else None


def account() -> str | None:
    """Whose processes the server's are: it refuses the superuser's."""
    if os.geteuid() != 0:
        return None
    return "postgres" if any(each.pw_name == "postgres" for each in pwd.getpwall()) else "nobody"


@dataclass
class Cluster:
    """A cluster in a folder of its own, reached by a socket in it; it syncs, because that is what is tried."""

    bin: Path
    folder: Path
    made_one: bool = False

    @classmethod
    def made(cls) -> Cluster:
        """Make and start one; where there is no server, the test counts as not run, under CI as failed."""
        bin = binaries()
        if bin is None:
            reason = "not run: no PostgreSQL server is installed (`tools/setup test` installs one)"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        cluster = cls(bin, Path(tempfile.mkdtemp(prefix="kt-pg-")))
        if (user := account()) is not None:
            shutil.chown(cluster.folder, user)
        words = ["--auth=trust", "--username=keyturn", "--no-sync", "--no-locale", "--encoding=UTF8"]
        cluster._do("initdb", *words, "-D", str(cluster.folder / "data"))
        cluster.start()
        return cluster

    def start(self) -> None:
        """Start it and wait until it answers."""
        said = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c shared_buffers=16MB"
        log = str(self.folder / "server.log")
        words = ["-D", str(self.folder / "data"), "-w", "-t", str(START_SECONDS), "-o", said, "-l", log]
        self._do("pg_ctl", "start", *words)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it as a crash would, unless another mode is asked for."""
        self._do("pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", mode, "-w", "-t", str(START_SECONDS))

    def remove(self) -> None:
        """Stop it and forget it."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """The address of an empty database: always the same one, as making and removing many takes long."""
        if not self.made_one:
            self.made_one = True
            self.sql(f"CREATE DATABASE {NAME}")
        self.sql(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{NAME}'")
        self.sql(f"ALTER DATABASE {NAME} RESET ALL")
        for statement in (
            "DROP SCHEMA IF EXISTS keyturn CASCADE",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
        ):
            self.sql(statement, NAME)
        return self.url(NAME)

    def url(self, name: str) -> str:
        """The address of a database; the folder of the socket stands where a host would."""
        return f"postgresql://keyturn@/{name}?host={self.folder}"

    def sql(self, statement: str, name: str = "postgres") -> list[tuple[object, ...]]:
        """Do one statement as the superuser."""
        import psycopg

        with psycopg.connect(self.url(name), autocommit=True) as db:
            asked = db.execute(statement.encode())
            return asked.fetchall() if asked.description else []

    def _do(self, program: str, *words: str) -> None:
        user = account()
        ran = subprocess.run(
            [str(self.bin / program), *words],
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by the server
            stderr=subprocess.DEVNULL,
            timeout=2 * START_SECONDS,
            check=False,
        )
        if ran.returncode:
            log = self.folder / "server.log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} {words} ended with {ran.returncode}: {said}")
