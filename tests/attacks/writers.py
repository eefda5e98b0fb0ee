"""Programs that write into a log of either kind, to be raced: `python -m tests.attacks.writers DEED WHERE`."""

from __future__ import annotations

import subprocess
import sys

from keyturn.core.errors import Conflict, Unavailable
from tests.conftest import REPO
from tests.servers.logs import open_log


def start(deed, where, *words):
    """Start one; what it says comes line by line."""
    arguments = [sys.executable, "-m", "tests.attacks.writers", deed, where, *words]
    return subprocess.Popen(arguments, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def say(*words):
    """One line on the output, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def decide(where, name):
    """Append what it saw, sixty times, each on the head that it read; say how often it had to read again."""
    conflicts = done = 0
    with open_log(where) as store:
        say("ready")
        sys.stdin.readline()
        while done < 60:
            head = store.head()
            try:
                store.append([b"%s saw %d" % (name.encode(), head.size)], expected=head)
                done += 1
            except Conflict:
                conflicts += 1
    say(conflicts)


def outlive(where, count):
    """Append so many entries by key whatever happens to the server, each again until it is acknowledged."""
    with open_log(where) as store:
        for n in range(int(count)):
            leaf = b"entry %d" % n
            while True:
                try:
                    size = store.append([leaf], expected=None, keys=[leaf.decode()]).size
                    break
                except Unavailable as fault:
                    say("away", fault.message)
            say("kept", n, size)


def govern(where, name):
    """Take the next term, then append on every line of input, and say what came of it."""
    with open_log(where) as store:
        say("term", store.take_term(name))
        for line in sys.stdin:
            try:
                say("wrote", store.append([line.strip().encode()], expected=None).size)
            except (Conflict, Unavailable) as fault:
                say(type(fault).__name__, fault.message)


if __name__ == "__main__":
    {"decide": decide, "outlive": outlive, "govern": govern}[sys.argv[1]](*sys.argv[2:])
