"""The commands that found a project and look at its rules: keys, people, policy."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from keyturn.cli import context
from keyturn.cli.screen import safe, short
from keyturn.cli.screens import policy as screen
from keyturn.core.errors import MalformedInput
from keyturn.core.policy import Policy
from keyturn.core.state import State


def init(args: argparse.Namespace) -> int:
    """Found a project; its lineage then waits for the `amend` quorum."""
    from keyturn import app

    project = app.init(
        Path(args.project) if args.project else Path.cwd(),
        name=args.name,
        person=args.person,
        keys=context.keys(args),
        passphrase_file=context.passphrase_file(args),
        founder=Path(args.founder) if args.founder else None,
        demo=args.demo,
        policy=Path(args.policy) if args.policy else None,
        unseen=args.unseen,
    )
    state = project.state()
    policy = _adopted(state)
    genesis = state.project.genesis if state.project else ""
    if args.json:
        context.emit({"root": project.root, "name": policy.name, "genesis": genesis, "policy": project.policy_path})
        return 0
    sheet = context.sheet()
    sheet.say(f"FOUNDED {safe(policy.name, 60)}: policy 1 is signed by everyone whom it names", "green", "bold")
    sheet.entry("folder", safe(project.root))
    sheet.entry("genesis", f"{safe(genesis, 80)}: pin this out of band; all trust starts from it")
    for warning in screen.warnings(policy):
        sheet.say(f"! {warning}", "yellow", hang=2)
    there = f" --project {safe(args.project)}" if args.project else ""
    sheet.command(f"keyturn run{there}", "asks for leave to found the lineage")
    sheet.command(f"keyturn approval give founder{there} --as {safe(args.person, 40)} --reason TEXT", "then run again")
    context.out(sheet)
    return 0


def key_new(args: argparse.Namespace) -> int:
    """Make a person's key, asking the passphrase in the process that makes it, or enrol the SSH key they have."""
    from keyturn import app

    if args.ssh is not None:
        kind, path = "ssh", app.enrol_ssh(args.person, file=Path(args.ssh), keys=context.keys(args))
    else:
        kind, path = (
            args.kind,
            app.new_key(
                args.person, kind=args.kind, keys=context.keys(args), passphrase_file=context.passphrase_file(args)
            ),
        )
    public = str(json.loads(path.read_text(encoding="utf-8")).get("public"))
    if args.json:
        context.emit({"person": args.person, "kind": kind, "path": path, "public": public})
        return 0
    sheet = context.sheet()
    sheet.say(f"key of {safe(args.person, 60)} {'enrolled' if kind == 'ssh' else 'made'}: {path}", "bold")
    sheet.say("for the policy, under `[[people]]`:")
    demand = ", touch = true" if public.startswith("sk-") else ""
    sheet.line(f'  keys = [{{ kind = "{kind}", public = "{safe(public, 500)}"{demand} }}]')
    context.out(sheet)
    return 0


def key_rotate(args: argparse.Namespace) -> int:
    """Make the governor's next key; it signs nothing before people adopted the policy that names it."""
    from keyturn import app

    if args.ml_dsa and args.which != "log":
        message = "only a log signs with ML-DSA-44 too; the service key is Ed25519"
        raise MalformedInput(message, help="`keyturn key rotate log --ml-dsa`")
    made = app.rotate(context.project(args), args.which, args.person, ml_dsa=args.ml_dsa)
    if args.json:
        context.emit({"which": made.which, "public": made.public, "keys": made.keys})
        return 0
    sheet = context.sheet()
    sheet.say(f"the next {made.which} key is made and in keyturn.toml; it signs once that is adopted", "bold")
    sheet.entry("key", safe(made.public, 200))
    if made.which == "log" and len(made.keys.log_keys) > 1:
        more = len(made.keys.log_keys) - 1
        sheet.say(f"{more} older beside it will sign too, for those who pinned them; take them out later", indent=2)
    command = f"keyturn policy adopt --as {safe(args.person, 40)} --reason TEXT{context.there(args)}"
    sheet.command(command, "each person of the `amend` quorum")
    context.out(sheet)
    return 0


def person_list(args: argparse.Namespace) -> int:
    """Who is enrolled by the policy in force."""
    from keyturn import app

    policy = _adopted(context.project(args).state())
    named = [(person.id, person) for person in policy.people]
    shown, after = context.page(named, after=args.after, limit=args.limit)
    if args.json:
        items = [{**_person(each), "simulated": each.simulated} for each in shown]
        context.emit({"items": items, "total": len(named), "next": after})
        return 0
    sheet = context.sheet()
    screen.people(sheet, policy, shown)
    for kept in sorted({key.custody for each in shown for key in each.keys}):
        sheet.say(f"custody {kept}: {app.describe_custody(kept)}", "dim", hang=2)
    if after:
        sheet.line(f"… more: `keyturn person list --after {safe(after, 40)}`")
    context.out(sheet)
    return 0


def _person(person: object) -> dict[str, object]:
    body = context.plain(person)
    return dict(body) if isinstance(body, dict) else {}


def _adopted(state: State) -> Policy:
    if state.current is None:
        raise MalformedInput("no policy is adopted; nothing starts without one", help="`keyturn init`")
    return state.current.policy


def _file(args: argparse.Namespace) -> Path:
    return Path(args.file) if args.file else context.project(args).policy_path


def policy_check(args: argparse.Namespace) -> int:
    """Name every mistake by its line, or explain the policy in prose."""
    from keyturn import app

    policy = app.read_policy(_file(args))
    prose = app.explain_policy(policy)
    if args.json:
        context.emit({"sound": True, "name": policy.name, "prose": prose, "warnings": screen.warnings(policy)})
        return 0
    sheet = context.sheet()
    screen.explained(sheet, policy, prose)
    context.out(sheet)
    return 0


def policy_diff(args: argparse.Namespace) -> int:
    """What the file would change in the policy in force."""
    from keyturn import app

    project = context.project(args)
    state = project.state()
    found = app.diff_policy(_adopted(state), app.read_policy(Path(args.file) if args.file else project.policy_path))
    lacks = () if args.file else project.adoption_lacks()
    if args.json:
        context.emit({"differences": found, "total": len(found), "lacks": lacks})
        return 0
    sheet = context.sheet()
    screen.changes(sheet, found)
    screen.lacking(sheet, lacks)
    context.out(sheet)
    return 0


def policy_adopt(args: argparse.Namespace) -> int:
    """Sign for the changed policy: 0 when it is in force, 1 while more people are needed."""
    project = context.project(args)
    before = _adopted(project.state())
    adopted = project.adopt_policy(context.signing(args), reason=context.reason(args))
    current = project.state().current
    number, digest = (current.version, current.digest) if current else (0, "")
    lacks = () if adopted else project.adoption_lacks()
    if args.json:
        said = {"adopted": adopted, "version": number, "digest": digest, "lacks": lacks}
        context.emit({**said, "exit_code": 0 if adopted else 1})
        return 0 if adopted else 1
    sheet = context.sheet()
    if adopted and current is not None and current.policy == before:
        sheet.say(f"nothing to adopt: the file says what policy {number} ({short(digest)}) says", "bold")
    elif adopted:
        sheet.say(f"ADOPTED: policy {number} ({short(digest)}) is in force", "green", "bold")
    else:
        sheet.say("signed; the change loosens, so it waits for everybody whom it needs", "yellow", "bold")
        screen.lacking(sheet, lacks)
        sheet.command("keyturn policy adopt --as PERSON --reason TEXT", "each of them")
    context.out(sheet)
    return 0 if adopted else 1
