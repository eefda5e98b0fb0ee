"""`keyturn-verify`: may these weights load, here, now, offline? Every doubt by its number."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.terms import Instant
from keyturn.verify import bundle, trust
from keyturn.verify.check import Checked, check
from keyturn.verify.load import examine

SCOPE = "this lineage, on governed machines"
"""The scope that permits name today."""


def main() -> int:
    """Check what the words name: 0 when every check holds, 3 with all doubts, else who is at fault."""
    parser = argparse.ArgumentParser(prog="keyturn-verify", description=__doc__, allow_abbrev=False)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--trust", type=Path, required=True, metavar="FILE", help="what you pinned")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="the artifact's files, to be hashed")
    parser.add_argument("--action", default="release", help="what is to be done (default release)")
    parser.add_argument("--scope", default=SCOPE, help="where (default: the scope that permits name)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    try:
        found = _checked(args)
    except KeyturnError as fault:
        _say(args, [f"error: {fault.message}", f"help: {fault.help}"], ok=False, code=fault.exit_code)
        return fault.exit_code
    return _told(args, found)


def _checked(args: argparse.Namespace) -> Checked:
    pinned = trust.read(args.trust)
    try:
        with args.bundle.open("rb") as file:
            opened = bundle.decode(file.read(bundle.BUNDLE_BYTES_MAX + 1))
    except OSError as fault:
        raise MalformedInput(f"the bundle `{args.bundle}` cannot be read: {fault.strerror}", help="name it") from fault
    now = Instant(time.time_ns() // 1_000_000)
    if args.weights is None:
        found = check(opened, pinned, action=args.action, scope=args.scope, now=now)
    else:
        found = examine(args.weights, opened, trust=pinned, action=args.action, scope=args.scope, now=now)
    if found.seen is not None:  # also of a bundle that is refused: a halt once seen is not forgotten
        trust.remember(pinned, found.seen)
    return found


def _told(args: argparse.Namespace, found: Checked) -> int:
    lines = ["REFUSED" if found.doubts else "VERIFIED"]
    lines.append(f"WITNESSED by {', '.join(found.witnesses)}" if found.witnesses else "UNWITNESSED")
    for doubt in found.doubts:
        lines += [f"{doubt.check}. {doubt.message}", f"   help: {doubt.help}"]
    if found.permit is not None:
        lines.append(f"{found.permit.action} of {found.permit.candidate}: {found.permit.root}")
        lines += ["SIMULATED PEOPLE: worth nothing outside a demo"] if found.permit.simulated else []
    if args.weights is None:
        lines.append("no weights were looked at: `--weights DIR` hashes them")
    code = 3 if found.doubts else 0
    _say(args, lines, ok=not code, code=code)
    return code


def _say(args: argparse.Namespace, lines: list[str], *, ok: bool, code: int) -> None:
    """Show what others wrote without letting it steer the terminal."""
    if args.json:
        sys.stdout.write(json.dumps({"ok": ok, "said": lines, "exit_code": code}) + "\n")
        return
    for line in lines:
        sys.stdout.write("".join(each if each.isprintable() else ascii(each)[1:-1] for each in line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
