"""The commands about the log itself: what stands in it, its static files, its proofs, and whether all of it holds.

Never says that others see the same log where nobody independent cosigned it: every screen then says UNWITNESSED.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli.acting import moment
from keyturn.cli.screen import count, safe, utc
from keyturn.cli.screens.permit import witnessed
from keyturn.core.errors import MalformedInput
from keyturn.core.events import EVENTS, to_json

if TYPE_CHECKING:
    from keyturn.app.reasons.checking import Kept
    from keyturn.cli.screen import Sheet
    from keyturn.core.events import Event

UNTRUSTED = 3


def log_list(args: argparse.Namespace) -> int:
    """Events in their order, one line each: the newest, or those after an index, or those that were asked for."""
    from keyturn.cli.screens import events as screen

    if args.limit < 1:
        raise MalformedInput(f"`--limit {args.limit}` shows nothing; 1 or more is expected", help="`--limit 50`")
    project = context.project(args)
    head = project.head()
    size = head.size
    asked = _asked(args)
    if asked:
        fitting = [each for each in project.entries(0, size) if _fits(args, each[1])]
        left = [each for each in fitting if args.after is None or each[0] > _index(args.after)]
        entries = tuple(left[-args.limit :] if args.after is None else left[: args.limit])
        last = fitting[-1][0] if fitting else 0
    else:
        start = max(0, size - args.limit) if args.after is None else _index(args.after) + 1
        entries, last = project.entries(start, args.limit), size - 1
    after = entries[-1][0] if entries and entries[-1][0] < last else None
    if args.json:
        events = [{"index": index, "state": head.state_of(index).word, **to_json(event)} for index, event in entries]
        context.emit_read(project, project.logged(), {"items": events, "size": size, "next": after})
        return 0
    sheet, reader = context.sheet(lists=True), project.reader(project.logged())
    states = [head.state_of(index).word for index, _ in entries]
    for (index, event), state in zip(entries, states, strict=True):
        screen.line(sheet, index, reader.event(event), state)
    if states:
        screen.legend(sheet, states)
    if after is not None:
        more = "more" if asked else f"{size - after - 1} more"
        sheet.line(f"… {more}: `keyturn log list {asked}--after {after}`")
    elif not entries:
        sheet.line(
            f"no entry fits; the log holds {size}" if asked else f"no entry after {args.after}; the log holds {size}"
        )
    context.out(sheet)
    return 0


def _asked(args: argparse.Namespace) -> str:
    """The filters as words to type again; empty without any."""
    given = [(name, getattr(args, name)) for name in ("kind", "actor", "candidate", "since")]
    return "".join(f"--{name} {safe(value, 80)} " for name, value in given if value)


def _fits(args: argparse.Namespace, event: Event) -> bool:
    kinds = {name.lower() for name in EVENTS}
    if args.kind and args.kind.lower() not in kinds:
        raise MalformedInput(f"`{safe(args.kind, 80)}` is no kind of event", help=f"one of {', '.join(sorted(EVENTS))}")
    since = moment(args.since)
    about = to_json(event).get("candidate")
    return (
        (not args.kind or type(event).__name__.lower() == args.kind.lower())
        and (not args.actor or event.actor in {args.actor, f"person:{args.actor}"})
        and (not args.candidate or (isinstance(about, str) and about.startswith(args.candidate)))
        and (since is None or event.at >= since)
    )


def _index(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise MalformedInput(f"`{text}` is no index of the log; a whole number is expected", help="`--after 100`")
    return int(text)


def log_tiles(args: argparse.Namespace) -> int:
    """Write the static files of the log, only those that are new."""
    from keyturn.app.publishing import handing

    where, done, witnesses = handing.publish_tiles(context.project(args), args.dir)
    if args.json:
        context.emit({**_fields(done), "dir": where, "witnesses": witnesses})
        return 0
    sheet = context.sheet()
    sheet.line(f"{sheet.paint('PUBLISHED', 'bold', 'green')}  {count(done.size, 'entry', 'entries')} in {safe(where)}")
    witnessed(sheet, witnesses)
    sheet.entry("new", f"{done.size - done.before} since {done.before}")
    sheet.entry("written", f"{count(done.files, 'file')}, {done.written} bytes; {done.pruned} partial ones removed")
    context.out(sheet)
    return 0


def log_prove(args: argparse.Namespace) -> int:
    """Write a standard proof that an entry is in the log; without `--out` it is printed."""
    from keyturn.app.publishing import handing

    found = handing.prove_entry(context.project(args), args.entry)
    if args.out:
        Path(args.out).write_bytes(found.proof)
    if args.leaf:
        Path(args.leaf).write_bytes(found.entry)
    if args.json:
        body = {"index": found.index, "size": found.size, "proof": found.proof.decode(), "entry": found.entry.decode()}
        body |= {"state": found.state, "witnesses": found.witnesses}
        context.emit({**body, "out": args.out, "leaf": args.leaf})
        return 0
    if not args.out:
        sys.stdout.write(found.proof.decode())
        return 0
    sheet = context.sheet()
    sheet.line(f"entry {found.index} of {found.size}, {found.state}: the proof is in {safe(args.out)}")
    witnessed(sheet, found.witnesses)
    sheet.command(f"keyturn log check {args.out} --entry {args.leaf or 'FILE'} --vkey VKEY")
    context.out(sheet)
    return 0


def log_state(args: argparse.Namespace) -> int:
    """How far one entry has come; with `--wait`, once it has come so far."""
    from keyturn.app.publishing import states
    from keyturn.cli.screens.events import SIGNS

    come = states.entry_state(context.project(args), args.entry, wait=args.wait, seconds=args.seconds)
    if args.json:
        context.emit(_fields(come))
        return 0
    sheet = context.sheet()
    sign, tone = SIGNS[come.state]
    sheet.line(f"{sheet.paint(f'{sign} {come.state.upper()}', tone, 'bold')}  entry {come.index} of {come.size}")
    sheet.entry("published", count(come.published, "entry", "entries"))
    sheet.entry("witnessed", count(come.witnessed, "entry", "entries"))
    context.out(sheet)
    return 0


def log_key(args: argparse.Namespace) -> int:
    """The keys that sign this log's heads now, each whole on a line of its own, to be handed to others."""
    from keyturn.core.keys.governor import keys_of

    state = context.project(args).logged()
    if state.project is None:
        raise MalformedInput("the log is not founded, so no key signs it", help="`keyturn init --as PERSON`")
    keys = keys_of(state.project, state.policies).log_keys
    if args.json:
        context.emit({"origin": state.project.origin, "vkeys": list(keys)})
        return 0
    print("\n".join(keys))
    return 0


def log_check(args: argparse.Namespace) -> int:
    """Check a proof offline; an error with exit code 3 says why it does not hold."""
    from keyturn.app.publishing import handing

    found = handing.check_proof(Path(args.proof), entry=Path(args.entry), vkey=args.vkey, witnesses=tuple(args.witness))
    head = found.head
    if args.json:
        body = {"index": found.index, "origin": head.origin, "size": head.size, "root": head.root.hex()}
        cosigned = [{"name": name, "at": at} for name, at in found.witnesses]
        context.emit({"holds": True, **body, "entry_bytes": found.entry_bytes, "witnesses": cosigned})
        return 0
    sheet = context.sheet()
    sheet.line(
        f"{sheet.paint('HOLDS', 'bold', 'green')}  these bytes are entry {found.index} of {safe(head.origin, 80)}"
    )
    witnessed(sheet, [f"{name} at {utc(at)}" for name, at in found.witnesses])
    sheet.entry("under", f"the signed head of {count(head.size, 'entry', 'entries')}")
    sheet.entry("root", head.root.hex())
    sheet.say("what the entry says, and who signed it, was not looked at")
    context.out(sheet)
    return 0


def log_fsck(args: argparse.Namespace) -> int:
    """Recompute the log and its published folder: 3 with every finding when something does not hold."""
    from keyturn.app.publishing import fsck

    if args.rebuild and not args.dir:
        raise MalformedInput(
            "`--rebuild` needs the folder that it is to make anew", help="`keyturn log fsck DIR --rebuild`"
        )
    found = fsck.check_everything(context.project(args), args.dir, rebuild=args.rebuild, tidy=args.tidy)
    code = UNTRUSTED if found.problems else 0
    if args.json:
        body = {"entries": found.entries, "root": found.root_hex, "problems": found.problems, "rebuilt": found.rebuilt}
        body |= {"dir": args.dir, "blobs": found.blobs}
        context.emit({"holds": not found.problems, **body, "witnesses": found.witnesses, "exit_code": code})
        return code
    sheet = context.sheet()
    word, tone = ("BROKEN", "red") if code else ("HOLDS", "green")
    what = f"the log and {safe(args.dir)}" if args.dir else "the log"
    said = count(len(found.problems), "problem") if code else f"{what}, computed again from the entries"
    sheet.line(f"{sheet.paint(word, 'bold', tone)}  {said}")
    witnessed(sheet, found.witnesses)
    for each in found.problems:
        sheet.say(f"✖ {safe(each.rule, 60)}: {safe(each.message, 400)}", "red", hang=4)
        sheet.say(f"  help: {safe(each.help, 300)}", hang=4)
    sheet.entry("entries", str(found.entries))
    sheet.entry("root", found.root_hex)
    if found.blobs is not None:
        _blobs(sheet, found.blobs)
    if found.rebuilt is not None:
        sheet.entry("made anew", f"{count(found.rebuilt.files, 'file')}, {found.rebuilt.written} bytes")
    context.out(sheet)
    return code


def _blobs(sheet: Sheet, kept: Kept) -> None:
    sheet.entry("blobs", f"{kept.sound} sound, {kept.erased} erased on the record")
    if kept.orphans:
        said = f"{count(len(kept.orphans), 'file')} among the blobs that no entry names; no problem, `--tidy` deletes"
        sheet.say(f"{said} what is an hour old, where the log and its blobs hold", "dim", hang=4)
    if kept.deleted:
        sheet.entry("deleted", f"{count(len(kept.deleted), 'file')} that no entry named")


def log_blob(args: argparse.Namespace) -> int:
    """Show what an entry withholds, or write its exact bytes: 1 where it is erased or lost."""
    from keyturn import app
    from keyturn.cli.screens import blobs as screen

    found = app.look(context.project(args), args.blob)
    code = 0 if found.blob is not None else 1
    text = found.blob.text if found.blob is not None else None
    if args.out and found.blob is not None:
        Path(args.out).write_bytes(found.blob.encoded)
    if args.json:
        body = {"digest": found.digest, "entries": found.entries, "state": found.state, "text": text}
        context.emit({**body, "subjects_own_words": found.printed, "out": args.out, "exit_code": code})
        return code
    sheet = context.sheet()
    where = ", ".join(map(str, found.entries))
    tone = "green" if code == 0 else "red" if found.state == "lost" else "yellow"
    sheet.line(f"{sheet.paint(found.state.upper(), 'bold', tone)}  {found.digest}, named by entry {where}")
    if text is None:
        why = "people cleared its erasure" if found.state == "erased" else "no entry says that it was erased"
        sheet.say(f"withheld ({found.digest[:15]}…): {why}")
    elif args.out:
        sheet.command(f"sha256sum {args.out}", "prints the digest that the entry names")
    elif found.printed:
        screen.printed(sheet, f"withheld:{found.digest}", text)
    else:
        screen.words(sheet, text)
    context.out(sheet)
    return code


def log_erase(args: argparse.Namespace) -> int:
    """Sign for erasing what an entry withholds: 0 when it is erased, 1 while more people are needed."""
    from keyturn import app

    project = context.project(args)
    found = app.erase(project, context.signing(args), args.blob, reason=context.reason(args))
    code = 0 if found.erased else 1
    if args.json:
        context.emit({"digest": found.digest, "dossier": found.dossier, "erased": found.erased, "exit_code": code})
        return code
    sheet = context.sheet()
    if found.erased:
        sheet.line(f"{sheet.paint('ERASED', 'bold', 'yellow')}  {found.digest}; its entries stand as they were")
        sheet.say("copies, exports and backups that were made before still hold it: it is for people to delete them")
    else:
        sheet.say("signed and in the log; more people are needed before anything is deleted", "yellow")
        sheet.command(f"keyturn log erase sha256:{found.digest[7:15]} --as PERSON --reason TEXT{context.there(args)}")
    context.out(sheet)
    return code


def permit_explode(args: argparse.Namespace) -> int:
    """Take a bundle apart into standard files, every proof checked with the pinned key."""
    from keyturn.app.publishing import handing

    names, witnesses = handing.explode(Path(args.bundle), Path(args.dir), trust=Path(args.trust))
    if args.json:
        context.emit({"dir": args.dir, "files": names, "witnesses": witnesses})
        return 0
    sheet = context.sheet()
    sheet.line(f"{count(len(names), 'file')} in {safe(args.dir)}; every proof leads to the checkpoint")
    witnessed(sheet, witnesses)
    _names(sheet, names)
    sheet.say("whether the permit may be used is for `keyturn verify permit` to say")
    context.out(sheet)
    return 0


def _names(sheet: Sheet, names: tuple[str, ...]) -> None:
    for name in names:
        sheet.line(f"  {name}")


def _fields(value: object) -> dict[str, object]:
    body = context.plain(value)
    return dict(body) if isinstance(body, dict) else {}
