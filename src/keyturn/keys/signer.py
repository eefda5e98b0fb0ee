"""The signing process: it alone asks for the passphrase, opens the key, signs one message and ends.

It never answers with anything but a public key, a signature or a refusal, leaves no core dump, and lets no process
of the same account read its memory. Python cannot wipe a text from memory; the process ends at once instead.

Started by `signing.py`, by file path and in isolated mode, with an empty environment; for an SSH key with what
OpenSSH needs to find the agent, which then does the signing. One JSON object comes in on
standard input, one goes out on standard output; the protocol is this file and `signing.py`.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    # Isolated mode hides a checkout that is on the path by environment only; ours is found by its own place.
    _ROOT = str(Path(__file__).resolve().parents[2])
    if _ROOT not in sys.path:
        sys.path.append(_ROOT)

from keyturn.core.errors import KeyturnError, MalformedInput, Unavailable, UntrustedInput
from keyturn.core.terms import Instant, Json
from keyturn.keys.keyfile import (
    PASSPHRASE_BYTES_MAX,
    KeyKind,
    create,
    path_of,
    read_private_file,
    read_public,
    ssh_place,
    unlock,
)

REQUEST_BYTES_MAX: Final = 4_000_000
INTERRUPTED: Final = 130
_PR_SET_DUMPABLE: Final = 4


def harden() -> None:
    """Allow no core dump and no reading of this process's memory by others of its account (Linux)."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise Unavailable("the kernel did not let the signing process protect its memory")


def answer(request: dict[str, Json]) -> dict[str, Json]:
    """Do what one request asks, `sign` or `create`, and return the answer; raises as the key file does."""
    action = request.get("do")
    if action == "sign":
        return _sign(request)
    if action == "create":
        return _create(request)
    raise MalformedInput(f"the signing process knows `sign` and `create`, not `{action}`")


def _sign(request: dict[str, Json]) -> dict[str, Json]:
    path = Path(str(request["key"]))
    message = base64.b64decode(str(request["message"]), validate=True)
    public = read_public(path)
    passphrase, words = None, _words(request, message)
    if public.kind is KeyKind.SSH:
        made = _by_openssh(request, path, message, words)
        return {"public": public.public, "sig": base64.b64encode(made).decode("ascii")}
    if public.kind.encrypted:
        lines = _screen(request, public.person, message, words)
        passphrase = _passphrase(request, lines, prompts=("passphrase: ",))
    signature = unlock(path, passphrase).sign(message)
    return {"public": public.public, "sig": base64.b64encode(signature).decode("ascii")}


def _words(request: dict[str, Json], message: bytes) -> str | None:
    """The words behind the reason that the message refers to, if it does; nothing is signed for other ones."""
    from keyturn.keys.showing import words_of

    return words_of(message, base64.b64decode(str(request.get("blob", "")), validate=True))


def _screen(request: dict[str, Json], person: str, message: bytes, words: str | None) -> tuple[str, ...]:
    from keyturn.keys.showing import screen

    said = request["show"]
    lines = [str(line) for line in said] if isinstance(said, list) else []
    return screen(person=person, message=message, said=lines, words=words)


def _by_openssh(request: dict[str, Json], path: Path, message: bytes, words: str | None) -> bytes:
    """Show the message and have it agreed to, because an agent may sign without asking anybody; then let OpenSSH."""
    from keyturn.keys import openssh

    unseen = request.get("unseen") is True
    if not unseen:
        from keyturn.keys.terminal import agreed

        if not agreed(_screen(request, read_public(path).person, message, words)):
            raise UntrustedInput("nothing was signed: the answer was not `yes`", help="read it again, then decide")
    return openssh.sign(ssh_place(path), message, unseen=unseen)


def _create(request: dict[str, Json]) -> dict[str, Json]:
    folder, person, kind = Path(str(request["folder"])), str(request["person"]), KeyKind(str(request["kind"]))
    created_at = request["created_at"]
    if type(created_at) is not int:
        raise MalformedInput("the moment of creation is not a whole number of milliseconds")
    passphrase = None
    if kind.encrypted:
        lines = (f"New key of {path_of(folder, person).stem}: choose its passphrase; nobody can recover it",)
        passphrase = _passphrase(request, lines, prompts=("passphrase: ", "again: "))
    public = create(folder, person, kind, passphrase=passphrase, created_at=Instant(created_at))
    return {"person": public.person, "kind": public.kind.value, "public": public.public}


def _passphrase(request: dict[str, Json], lines: tuple[str, ...], *, prompts: tuple[str, ...]) -> str:
    """Get the passphrase from the file or descriptor that the person named, else from the terminal."""
    handle, path = request.get("passphrase_fd"), request.get("passphrase_file")
    if isinstance(handle, int):
        return _first_line(_read_to_end(handle))
    if isinstance(path, str):
        return _first_line(read_private_file(Path(path), bytes_max=PASSPHRASE_BYTES_MAX + 2))
    from keyturn.keys.terminal import ask

    return ask(lines, prompts=prompts, bytes_max=PASSPHRASE_BYTES_MAX)


def _read_to_end(handle: int) -> bytes:
    found = b""
    while b"\n" not in found and len(found) <= PASSPHRASE_BYTES_MAX:
        more = os.read(handle, 4096)
        if not more:
            break
        found += more
    return found


def _first_line(content: bytes) -> str:
    try:
        return content.split(b"\n", 1)[0].removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        # Without `from None` the traceback would carry the bytes.
        raise MalformedInput("the passphrase is not UTF-8 text", help="save it as UTF-8") from None


def _read_request() -> dict[str, Json]:
    content = sys.stdin.buffer.read(REQUEST_BYTES_MAX + 1)
    request = json.loads(content) if len(content) <= REQUEST_BYTES_MAX else None
    if not isinstance(request, dict):
        raise MalformedInput("the signing process expects one JSON object on standard input")
    return request


def main() -> int:
    """Serve one request; return 0 or the exit code of the error that the answer carries."""
    code = 0
    try:
        harden()
        said = answer(_read_request())
    except KeyturnError as error:
        code = error.exit_code
        said = {"error": {"class": type(error).__name__, "message": error.message, "help": error.help}}
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, KeyError, OSError) as error:
        # Only the type: the text of an exception may quote what it was given.
        code = MalformedInput.exit_code
        text = f"the signing process could not read its request ({type(error).__name__})"
        said = {"error": {"class": "MalformedInput", "message": text, "help": ""}}
    sys.stdout.write(json.dumps(said))
    return code


if __name__ == "__main__":
    sys.exit(main())
