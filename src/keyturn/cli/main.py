"""`keyturn NOUN VERB`: the parser, and the one place where an error becomes a line and an exit code.

Loads a command's module only when the command runs, so that `keyturn --help` costs next to nothing.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Add = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse gives this type no public name

EXITS = """exit: 0 done, 1 refused or held, 2 usage or configuration, 3 untrusted or tampered, 4 unavailable,
5 conflict, 6 halted, 7 halt unproven, 130 interrupted"""

LOOKING = "keyturn.cli.looking"
ACTING = "keyturn.cli.acting"
FOUNDING = "keyturn.cli.founding"
CHECKING = "keyturn.cli.checking"
DEMO = "keyturn.cli.demo"


class _Parser(argparse.ArgumentParser):
    """A parser that words its errors as all others are worded."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and what to do, and leave with 2."""
        print(f"error: {message}\nhelp: `{self.prog} --help`", file=sys.stderr)
        if "--json" in sys.argv:
            import json

            print(json.dumps({"error": message, "help": f"{self.prog} --help", "exit_code": 2}))
        self.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar; a house test compares it with the README."""
    parser: argparse.ArgumentParser = _Parser(
        prog="keyturn",
        description="A governor for self-improving AI: no successor without clearance.",
        epilog=EXITS,
        allow_abbrev=False,
    )
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    _running(nouns)
    _founding(nouns)
    _deciding(nouns)
    _looking(nouns)
    _checking(nouns)
    _stopping(nouns)
    return parser


def _command(under: _Add, name: str, help: str, place: str, act: str) -> argparse.ArgumentParser:
    """One command, done by the function `act` of the module `place`."""
    made = under.add_parser(name, help=help, description=help, allow_abbrev=False)
    made.set_defaults(place=place, act=act, json=False)
    made.add_argument("--project", metavar="DIR", help="the project's folder (default: found upwards from here)")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return made


def _noun(under: _Add, name: str, help: str) -> _Add:
    made = under.add_parser(name, help=help, description=help, allow_abbrev=False)
    return made.add_subparsers(metavar="VERB", required=True)


def _person(made: argparse.ArgumentParser, *, role: bool = True) -> None:
    """What somebody needs to act as a person."""
    made.add_argument("--as", dest="person", metavar="PERSON", required=True, help="who decides")
    if role:
        made.add_argument("--role", help="in which role (default: the first that fits)")
    made.add_argument("--reason", metavar="TEXT", help="why, for the log (asked for on a terminal)")
    _keys(made)


def _keys(made: argparse.ArgumentParser) -> None:
    made.add_argument("--keys", metavar="DIR", help="where people's keys lie")
    made.add_argument("--passphrase-file", metavar="FILE", help="a file of mode 0600 (default: asked on the terminal)")


def _pages(made: argparse.ArgumentParser, limit: int = 50) -> None:
    made.add_argument("--limit", type=int, default=limit, metavar="N", help=f"at most so many (default {limit})")
    made.add_argument("--after", metavar="ID", help="go on after this one")


def _running(nouns: _Add) -> None:
    made = _command(nouns, "run", "run the loop until people are needed", ACTING, "run")
    made.add_argument("--shadow", action="store_true", help="record what would be held; issue nothing")
    made.add_argument("--wait", action="store_true", help="go on as soon as people have decided")
    made = _command(nouns, "status", "what waits for whom, at a glance", LOOKING, "status")
    _demo(nouns)
    made = _command(nouns, "doctor", "what this machine can enforce, and what it lacks", FOUNDING, "doctor")


def _demo(nouns: _Add) -> None:
    help = "watch a subject improve itself under governance, and turn the keys yourself"
    made = nouns.add_parser("demo", help=help, description=help, allow_abbrev=False)
    made.set_defaults(place=DEMO, act="demo", json=False)
    made.add_argument("--out", default="demo-out", metavar="DIR", help="where it plays (default demo-out)")
    made.add_argument("--seed", type=int, default=6, metavar="N", help="the seed of the whole run (default 6)")
    made.add_argument("--candidates", type=int, default=6, metavar="N", help="how many are made (default 6)")
    made.add_argument("--simulated", action="store_true", help="ask nobody: simulated people decide, marked so")


def _founding(nouns: _Add) -> None:
    made = _command(nouns, "init", "found a project in a folder", FOUNDING, "init")
    made.add_argument("--name", default="connect4", help="what it is called (default connect4)")
    made.add_argument("--as", dest="person", metavar="PERSON", required=True, help="the first person of the policy")
    made.add_argument("--founder", metavar="DIR", help="the first member's files (default: connect4 teaches one)")
    made.add_argument("--policy", metavar="FILE", help="a policy of your own (default: one for connect4)")
    made.add_argument("--demo", action="store_true", help="simulated people may sign; for ever marked so")
    _keys(made)
    verbs = _noun(nouns, "key", "people's keys")
    made = _command(verbs, "new", "make a person's key, in a process of its own", FOUNDING, "key_new")
    made.add_argument("person", metavar="PERSON")
    made.add_argument("--kind", choices=("ed25519", "simulated"), default="ed25519")
    _keys(made)
    verbs = _noun(nouns, "person", "who may decide")
    _pages(_command(verbs, "list", "who is enrolled, in which roles, with keys kept where", FOUNDING, "person_list"))
    verbs = _noun(nouns, "policy", "the rulebook")
    made = _command(verbs, "check", "find every mistake by its line, or explain the policy", FOUNDING, "policy_check")
    made.add_argument("file", nargs="?", metavar="FILE", help="default: the project's keyturn.toml")
    made = _command(verbs, "diff", "what the file would change: tightening or loosening", FOUNDING, "policy_diff")
    made.add_argument("file", nargs="?", metavar="FILE", help="default: the project's keyturn.toml")
    _person(_command(verbs, "adopt", "sign for the changed keyturn.toml", FOUNDING, "policy_adopt"))


def _deciding(nouns: _Add) -> None:
    verbs = _noun(nouns, "warrant", "leave to run the loop")
    made = _command(verbs, "give", "sign for leave to make candidates; it never grants release", ACTING, "warrant_give")
    made.add_argument("--candidates", type=int, default=1, metavar="N", help="how many (default 1)")
    made.add_argument("--level-ceiling", type=int, default=0, metavar="L", help="the highest level (default 0)")
    made.add_argument("--hours", type=float, default=24.0, metavar="H", help="for how long (default 24)")
    _person(made)
    verbs = _noun(nouns, "dossier", "the one object that people sign")
    made = _command(verbs, "show", "everything that a decision rests on", LOOKING, "dossier_show")
    made.add_argument("dossier", metavar="DOSSIER", nargs="?", help="digest or candidate (default: the one that waits)")
    verbs = _noun(nouns, "approval", "a person's signed decision")
    for verb, help in (("give", "sign for a dossier"), ("refuse", "sign against a dossier: one refusal ends it")):
        made = _command(verbs, verb, help, ACTING, f"approval_{verb}")
        made.add_argument("dossier", metavar="DOSSIER", help="digest or candidate")
        _person(made)
    made = _command(nouns, "audit", "sign that you reviewed a released generation", ACTING, "audit")
    made.add_argument("generation", metavar="GENERATION", nargs="?", help="root or candidate (default: the newest)")
    _person(made)


def _looking(nouns: _Add) -> None:
    verbs = _noun(nouns, "lineage", "what the subject is becoming")
    made = _command(verbs, "show", "the lineage drawn, with capability and charter", LOOKING, "lineage_show")
    made.add_argument("--svg", metavar="FILE", help="write a picture too")
    verbs = _noun(nouns, "candidate", "a proposed successor")
    made = _command(verbs, "show", "what became of a candidate and why", LOOKING, "candidate_show")
    made.add_argument("candidate", metavar="CANDIDATE")
    verbs = _noun(nouns, "trial", "a sealed run of a candidate")
    made = _command(verbs, "show", "its plan, its two bets, and what it showed", LOOKING, "trial_show")
    made.add_argument("trial", metavar="TRIAL", help="such as c3/centre")
    made = _command(verbs, "replay", "compute a trial again from the log, to the bit", CHECKING, "trial_replay")
    made.add_argument("trial", metavar="TRIAL")
    verbs = _noun(nouns, "permit", "leave to use an artifact")
    made = _command(verbs, "show", "what a permit allows, and whether it still does", LOOKING, "permit_show")
    made.add_argument("permit", metavar="PERMIT", nargs="?", help="default: the newest")
    made.add_argument("--bundle", metavar="FILE", help="write the bundle for a loading node")
    made.add_argument("--trust", metavar="FILE", help="write the trust file that a loading node pins")
    verbs = _noun(nouns, "log", "the only truth")
    made = _command(verbs, "list", "one line an event (default: the newest)", LOOKING, "log_list")
    _pages(made)
    _command(verbs, "replay", "decide the whole log again", CHECKING, "log_replay")


def _checking(nouns: _Add) -> None:
    verbs = _noun(nouns, "verify", "check what others hand over, offline")
    made = _command(verbs, "permit", "may these weights load, here, now?", CHECKING, "verify_permit")
    made.add_argument("bundle", metavar="BUNDLE")
    made.add_argument("--trust", metavar="FILE", required=True, help="what you pinned: genesis, origin, last head seen")
    made.add_argument("--weights", metavar="DIR", help="the artifact's files, to be hashed")
    made.add_argument("--action", default="release", help="what is to be done (default release)")
    made.add_argument("--scope", help="where (default: the scope that permits name)")
    made = _command(verbs, "log", "recompute a log's tree and decide it again", CHECKING, "verify_log")
    made.add_argument("db", metavar="DB")
    made.add_argument("--trust", metavar="FILE", help="what you pinned")


def _stopping(nouns: _Add) -> None:
    made = _command(nouns, "halt", "stop everything now, and prove it", ACTING, "halt")
    made.add_argument("--as", dest="person", metavar="PERSON", help="which person halts; needs no key")
    made.add_argument("--by", metavar="NAME", help="what else halts (default: somebody at the terminal)")
    made.add_argument("--reason", metavar="TEXT", default="no reason given", help="why, for the log")
    _person(_command(nouns, "resume", "sign for lifting the halt that stands", ACTING, "resume"))
    verbs = _noun(nouns, "incident", "what went wrong")
    _pages(_command(verbs, "list", "every incident, newest last", LOOKING, "incident_list"))
    made = _command(verbs, "show", "what happened, and which legal clocks run", LOOKING, "incident_show")
    made.add_argument("incident", metavar="INCIDENT")
    made.add_argument("--draft", metavar="FILE", help="write the report as far as the log can fill it")
    made = _command(verbs, "aware", "sign that a moment which the law names has come", ACTING, "incident_aware")
    made.add_argument("incident", metavar="INCIDENT")
    made.add_argument("--moment", default="aware_at", help="which moment (default aware_at)")
    made.add_argument("--at", metavar="TIME", help="when, such as 2026-11-23T21:05:10Z (default: now)")
    _person(made, role=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say and return the exit code; nothing but a broken invariant leaves a traceback."""
    try:
        args = build_parser().parse_args(argv)
        from keyturn.cli import context

        return context.perform(args)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is lost; what was logged stands, the rest is done again", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
