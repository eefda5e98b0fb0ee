"""`keyturn NOUN VERB`: the parser, and the one place where an error becomes a line and an exit code.

Loads a command's module only when the command runs, so that `keyturn --help` costs next to nothing.
"""

from __future__ import annotations

import argparse
import math
import sys

TYPE_CHECKING = False  # the real one would cost the import of `typing`, which nothing else here needs
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    _Add = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse gives this type no public name

EXITS = """exit: 0 done, 1 refused or held, 2 usage or configuration, 3 untrusted or tampered, 4 unavailable,
5 conflict, 6 halted, 7 halt unproven, 130 interrupted"""

LOOKING = "keyturn.cli.looking"
ACTING = "keyturn.cli.acting"
FOUNDING = "keyturn.cli.founding"
MACHINE = "keyturn.cli.machine.commands"
CHECKING = "keyturn.cli.checking"
LOGS = "keyturn.cli.logs"
LOOPING = "keyturn.cli.looping"
AUDITING = "keyturn.cli.auditing.grammar"
WITNESSING = "keyturn.cli.witnessing.words"
DEMO = "keyturn.cli.demo.story"
TRIAL = "keyturn.cli.words.trial"
VERIFY = "keyturn.cli.words.verify"


class _Parser(argparse.ArgumentParser):
    """A parser that words its errors as all others are worded; `as_json` says whether a script reads them."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and what to do, and leave with 2."""
        print(f"error: {message}\nhelp: `{self.prog} --help`", file=sys.stderr)
        if self.as_json:
            import json

            print(json.dumps({"error": message, "help": f"{self.prog} --help", "exit_code": 2}))
        self.exit(2)


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole grammar; a house test compares it with the README.

    With `only` the other nouns are named but not filled in, because building them all takes longer than most commands.
    """
    parser: argparse.ArgumentParser = _Parser(
        prog="keyturn",
        description="A governor for self-improving AI: no successor without clearance.",
        epilog=EXITS,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=16),
    )
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (help, fill) in NOUNS.items():
        made = nouns.add_parser(name, help=help, description=help, allow_abbrev=False)
        if only in {None, name}:
            fill(made)
    return parser


def _does(made: argparse.ArgumentParser, place: str, act: str) -> argparse.ArgumentParser:
    """This parser is a command, done by the function `act` of the module `place`."""
    made.set_defaults(place=place, act=act, json=False)
    made.add_argument("--project", metavar="DIR", help="the project's folder (default: found upwards from here)")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return made


def _verbs(made: argparse.ArgumentParser) -> _Add:
    return made.add_subparsers(metavar="VERB", required=True)


def _verb(under: _Add, name: str, help: str, place: str, act: str) -> argparse.ArgumentParser:
    return _does(under.add_parser(name, help=help, description=help, allow_abbrev=False), place, act)


def _person(made: argparse.ArgumentParser, *, role: bool = True) -> None:
    """What somebody needs to act as a person."""
    made.add_argument("--as", dest="person", metavar="PERSON", required=True, help="who decides")
    if role:
        made.add_argument("--role", help="in which role (default: the first that fits)")
    made.add_argument("--reason", metavar="TEXT", help="why, for the log (asked for on a terminal)")
    _signs(made)


def _signs(made: argparse.ArgumentParser) -> None:
    """What somebody needs whose key signs."""
    _keys(made)
    made.add_argument("--unseen", action="store_true", help="let an SSH key sign without showing what, for scripts")


def _keys(made: argparse.ArgumentParser) -> None:
    made.add_argument("--keys", metavar="DIR", help="where people's keys lie")
    made.add_argument("--passphrase-file", metavar="FILE", help="a file of mode 0600 (default: asked on the terminal)")


def _pages(made: argparse.ArgumentParser, limit: int = 50) -> None:
    made.add_argument("--limit", type=int, default=limit, metavar="N", help=f"at most so many (default {limit})")
    made.add_argument("--after", metavar="ID", help="go on after this one")


def _init(made: argparse.ArgumentParser) -> None:
    _does(made, FOUNDING, "init")
    made.add_argument("--name", default="connect4", help="what it is called (default connect4)")
    made.add_argument("--as", dest="person", metavar="PERSON", required=True, help="the first person of the policy")
    made.add_argument("--founder", metavar="DIR", help="the first member's files (default: connect4 teaches one)")
    made.add_argument("--policy", metavar="FILE", help="a policy of your own (default: one for connect4)")
    made.add_argument("--demo", action="store_true", help="simulated people may sign; for ever marked so")
    _signs(made)


def _run(made: argparse.ArgumentParser) -> None:
    _does(made, ACTING, "run")
    made.add_argument("--shadow", action="store_true", help="record what would be held; issue nothing")
    made.add_argument(
        "--wait", action="store_true", help="go on as soon as people have decided; ends without a warrant"
    )
    made.add_argument("--standby", action="store_true", help="wait until no other governor lives, then take over")


def _loop(made: argparse.ArgumentParser) -> None:
    serve = _verb(_verbs(made), "serve", "be the governor of one run of a loop that others wrote", LOOPING, "serve")
    serve.add_argument("--shadow", action="store_true", help="record what would be refused and held; refuse nothing")
    serve.add_argument("--warm", type=int, default=2, metavar="N", help="how many sandboxes wait ready (default 2)")


def _demo(made: argparse.ArgumentParser) -> None:
    made.set_defaults(place=DEMO, act="demo", json=False)
    made.add_argument("--out", default="demo-out", metavar="DIR", help="where it plays (default demo-out)")
    made.add_argument("--seed", type=int, default=6, metavar="N", help="the seed of the whole run (default 6)")
    made.add_argument("--candidates", type=int, default=6, metavar="N", help="how many are made (default 6)")
    made.add_argument("--simulated", action="store_true", help="ask nobody: simulated people decide, marked so")


def _openevolve(made: argparse.ArgumentParser) -> None:
    from functools import partial

    from keyturn.cli.words import openevolve

    verbs = _verbs(made)

    def plain(name: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help="watch OpenEvolve ungoverned and governed", allow_abbrev=False)

    openevolve.fill(partial(_verb, verbs), plain, _signs)


def _key(made: argparse.ArgumentParser) -> None:
    verbs = _verbs(made)
    new = _verb(verbs, "new", "make a person's key, in a process of its own", FOUNDING, "key_new")
    new.add_argument("person", metavar="PERSON")
    new.add_argument("--kind", choices=("ed25519", "simulated"), default="ed25519")
    new.add_argument("--ssh", metavar="FILE", help="sign with this SSH key instead: its `.pub` file")
    _keys(new)
    help = "make the governor's next key and write it into keyturn.toml, to be adopted"
    turn = _verb(verbs, "rotate", help, FOUNDING, "key_rotate")
    turn.add_argument("which", choices=("service", "log"))
    turn.add_argument("--as", dest="person", metavar="PERSON", required=True, help="who will sign for it")
    turn.add_argument("--ml-dsa", action="store_true", help="for the log: a second, post-quantum key beside the others")


def _people(made: argparse.ArgumentParser) -> None:
    help = "who is enrolled, in which roles, with keys kept where"
    _pages(_verb(_verbs(made), "list", help, FOUNDING, "person_list"))


def _policy(made: argparse.ArgumentParser) -> None:
    verbs = _verbs(made)
    for verb, help in (
        ("check", "find every mistake by its line, or explain the policy"),
        ("diff", "what the file would change: tightening or loosening"),
    ):
        one = _verb(verbs, verb, help, FOUNDING, f"policy_{verb}")
        one.add_argument("file", nargs="?", metavar="FILE", help="default: the project's keyturn.toml")
    _person(_verb(verbs, "adopt", "sign for the changed keyturn.toml", FOUNDING, "policy_adopt"))


def finite(text: str) -> float:
    """A number that is one: `nan` compares with nothing, and would bound nothing."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _warrant(made: argparse.ArgumentParser) -> None:
    help = "sign for leave to make candidates; it never grants release"
    give = _verb(_verbs(made), "give", help, ACTING, "warrant_give")
    give.add_argument("--candidates", type=int, default=1, metavar="N", help="how many (default 1)")
    give.add_argument("--level-ceiling", type=int, default=0, metavar="L", help="the highest level (default 0)")
    give.add_argument("--hours", type=finite, default=24.0, metavar="H", help="for how long (default 24)")
    give.add_argument("--programs", type=int, default=0, metavar="N", help="with `[loop]`: how many programs may run")
    give.add_argument("--wall-minutes", type=finite, default=0, metavar="M", help="with `[loop]`: and for how long")
    for name, metavar, what in (("requests", "N", "requests"), ("tokens", "N", "tokens"), ("usd", "USD", "dollars")):
        kind = finite if name == "usd" else int
        give.add_argument(f"--{name}", type=kind, default=0, metavar=metavar, help=f"{what} at most (0: not bounded)")
    _person(give)


def _dossier(made: argparse.ArgumentParser) -> None:
    show = _verb(_verbs(made), "show", "everything that a decision rests on", LOOKING, "dossier_show")
    show.add_argument("dossier", metavar="DOSSIER", nargs="?", help="digest or candidate (default: the one that waits)")


def _approval(made: argparse.ArgumentParser) -> None:
    verbs = _verbs(made)
    for verb, help in (("give", "sign for a dossier"), ("refuse", "sign against a dossier: one refusal ends it")):
        one = _verb(verbs, verb, help, ACTING, f"approval_{verb}")
        one.add_argument("dossier", metavar="DOSSIER", help="digest or candidate")
        _person(one)


def _audit(made: argparse.ArgumentParser) -> None:
    _does(made, ACTING, "audit")
    made.add_argument("generation", metavar="GENERATION", nargs="?", help="root or candidate (default: the newest)")
    _person(made)


def _lineage(made: argparse.ArgumentParser) -> None:
    help = "the lineage drawn, with capability and charter"
    show = _verb(_verbs(made), "show", help, LOOKING, "lineage_show")
    show.add_argument("--svg", metavar="FILE", help="write a picture too")


def _candidate(made: argparse.ArgumentParser) -> None:
    show = _verb(_verbs(made), "show", "what became of a candidate and why", LOOKING, "candidate_show")
    show.add_argument("candidate", metavar="CANDIDATE")
    show.add_argument("--diagnostics", action="store_true", help="and what the subject printed, in its own words")


def _permit(made: argparse.ArgumentParser) -> None:
    verbs = _verbs(made)
    end = _verb(verbs, "revoke", "end a permit now; free, like every tightening", ACTING, "permit_revoke")
    end.add_argument("permit", metavar="PERMIT")
    end.add_argument("--by", metavar="NAME", default="somebody at the terminal", help="who revokes; needs no key")
    end.add_argument("--reason", metavar="TEXT", required=True)
    show = _verb(verbs, "show", "what a permit allows, and whether it still does", LOOKING, "permit_show")
    show.add_argument("permit", metavar="PERMIT", nargs="?", help="default: the newest")
    show.add_argument("--bundle", metavar="FILE", help="write the bundle for a loading node")
    show.add_argument("--trust", metavar="FILE", help="the trust file that a loading node pins; kept if there")
    show.add_argument(
        "--since", metavar="N", type=int, default=0, help="entries that the node has seen, which the bundle continues"
    )
    part = _verb(verbs, "explode", "take a bundle apart into standard files for other tools", LOGS, "permit_explode")
    part.add_argument("bundle", metavar="BUNDLE")
    part.add_argument("dir", metavar="DIR", help="an empty or a new folder")
    part.add_argument("--trust", metavar="FILE", required=True, help="what you pinned: the log's key comes from here")


def _log(made: argparse.ArgumentParser) -> None:
    verbs = _verbs(made)
    show = _verb(verbs, "list", "one line an event (default: the newest)", LOGS, "log_list")
    show.add_argument("--kind", metavar="EVENT", help="only these, such as ApprovalGiven")
    show.add_argument("--actor", metavar="NAME", help="only what this person or process did")
    show.add_argument("--candidate", metavar="CANDIDATE", help="only what is about this candidate")
    show.add_argument("--since", metavar="TIME", help="only from then on, such as 2026-11-23T21:05:10Z")
    _pages(show)
    _log_files(verbs)
    again = _verb(verbs, "replay", "decide the whole log again", CHECKING, "log_replay")
    again.add_argument("file", nargs="?", metavar="FILE", help="an export, on any machine (default: the project's log)")
    again.add_argument("--trust", metavar="FILE", help="what you pinned, for an export")
    one = _verb(verbs, "export", "the whole log in one file, for an auditor", CHECKING, "log_export")
    one.add_argument("file", metavar="FILE", help="a new file: a plain tar archive")
    one.add_argument("--without-blobs", action="store_true", help="withhold everything that entries only refer to")


def _log_files(verbs: _Add) -> None:
    from functools import partial

    from keyturn.cli.words import log_files

    log_files.fill(partial(_verb, verbs), _person)


def _elsewhere(place: str) -> Callable[[argparse.ArgumentParser], None]:
    """A noun whose verbs stand in a grammar of its own, which is loaded when they are needed."""

    def fill(made: argparse.ArgumentParser) -> None:
        from functools import partial
        from importlib import import_module

        import_module(place).fill(partial(_verb, _verbs(made)))

    return fill


def _sandbox(made: argparse.ArgumentParser) -> None:
    _verb(
        _verbs(made), "check", "attack our own sandbox, probe by probe, and say which tier it earns", MACHINE, "check"
    )


def _halt(made: argparse.ArgumentParser) -> None:
    _does(made, ACTING, "halt")
    made.add_argument("--as", dest="person", metavar="PERSON", help="which person halts; needs no key")
    made.add_argument("--by", metavar="NAME", help="what else halts (default: somebody at the terminal)")
    made.add_argument("--reason", metavar="TEXT", default="no reason given", help="why, for the log")
    made.add_argument("--drill", action="store_true", help="stop nothing: measure a halt beside what runs")


def _still(made: argparse.ArgumentParser, act: str) -> None:
    from keyturn.cli.still import words

    words.FILL[act](_does(made, "keyturn.cli.still.acts", act))


def _incident(made: argparse.ArgumentParser) -> None:
    verbs = _verbs(made)
    _pages(_verb(verbs, "list", "every incident, newest last", LOOKING, "incident_list"))
    show = _verb(verbs, "show", "what happened, and which legal clocks run", LOOKING, "incident_show")
    show.add_argument("incident", metavar="INCIDENT")
    show.add_argument("--draft", metavar="FILE", help="write the report as far as the log can fill it")
    aware = _verb(verbs, "aware", "sign that a moment which the law names has come", ACTING, "incident_aware")
    aware.add_argument("incident", metavar="INCIDENT")
    aware.add_argument("--moment", default="aware_at", help="which moment (default aware_at; a wrong one lists all)")
    aware.add_argument("--at", metavar="TIME", help="when, such as 2026-11-23T21:05:10Z (default: now)")
    _person(aware, role=False)


NOUNS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], object]]] = {
    "status": ("what waits for whom, at a glance", lambda made: _does(made, LOOKING, "status")),
    "run": ("run the loop until people are needed", _run),
    "loop": ("govern a loop that others wrote", _loop),
    "halt": ("stop everything now, and prove it", _halt),
    "freeze": ("hold everything still and look; past its bound it is a halt", lambda made: _still(made, "freeze")),
    "thaw": ("let what a freeze holds still go on", lambda made: _still(made, "thaw")),
    "resume": ("sign for lifting the halt that stands", lambda made: _person(_does(made, ACTING, "resume"))),
    "dossier": ("the one object that people sign", _dossier),
    "approval": ("a person's signed decision", _approval),
    "warrant": ("leave to run the loop", _warrant),
    "audit": ("sign that you reviewed a released generation", _audit),
    "lineage": ("what the subject is becoming", _lineage),
    "candidate": ("a proposed successor", _candidate),
    "trial": ("a sealed run of a candidate", _elsewhere(TRIAL)),
    "permit": ("leave to use an artifact", _permit),
    "incident": ("what went wrong, and which clocks run", _incident),
    "log": ("the only truth", _log),
    "verify": ("check what others hand over, offline", _elsewhere(VERIFY)),
    "witness": ("cosign the logs of others, so that none can show two histories", _elsewhere(WITNESSING)),
    "auditor": ("a witness that decides everything again before it cosigns", _elsewhere(AUDITING)),
    "init": ("found a project in a folder", _init),
    "key": ("people's keys", _key),
    "person": ("who may decide", _people),
    "policy": ("the rulebook", _policy),
    "doctor": ("what this machine can enforce, and lacks", lambda made: _does(made, MACHINE, "doctor")),
    "sandbox": ("what keeps a subject in, and whether it holds", _sandbox),
    "openevolve": ("govern OpenEvolve, a loop that we did not write", _openevolve),
    "demo": ("watch a subject improve itself, governed, and turn the keys yourself", _demo),
}
"""Every noun, and every command that is one word, in the order in which people need them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say and return the exit code; nothing but a broken invariant leaves a traceback."""
    try:
        words = sys.argv[1:] if argv is None else list(argv)
        _Parser.as_json = "--json" in words
        args = build_parser(words[0] if words else "").parse_args(words)
        from keyturn.cli import context

        return context.perform(args)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing is lost; what was logged stands, the rest is done again", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
