"""The governor's side of the signing process: start it, hand it a message, check what comes back.

Never sees a passphrase or a private key: it names the file or descriptor that holds one, and the child reads it.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from keyturn.core import errors
from keyturn.core.errors import KeyturnError, MalformedInput, Unavailable, UntrustedInput
from keyturn.core.terms import Instant, Json
from keyturn.keys import openssh
from keyturn.keys.keyfile import KeyKind, PublicKey, path_of, read_public
from keyturn.wire import signature
from keyturn.wire.blobs.blob import Blob

CHILD: Final = Path(__file__).with_name("signer.py")
MESSAGE_BYTES_MAX: Final = 1_000_000
SECONDS_MAX: Final = 30
_INTERRUPTED: Final = 130
_CLASSES: Final = ("MalformedInput", "UntrustedInput", "Unavailable", "Conflict")


def sign_in_child(
    key_path: Path,
    message: bytes,
    *,
    show: Sequence[str] = (),
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    unseen: bool = False,
    blob: Blob | None = None,
) -> bytes:
    """Have the message signed in a process of its own and return the signature: 64 bytes of Ed25519, or an SSHSIG.

    The child shows what it reads in the message, then `show` marked as our words, and asks the passphrase on the
    terminal, or reads it from the file (mode 0600) or descriptor named here. Keys of kind `simulated` and
    `service` ask nothing. For a key of kind `ssh` the child shows the same and asks for a `yes`, unless it may sign
    `unseen`; then OpenSSH signs and asks what it needs. Where the message refers to a reason that it does not hold,
    `blob` is that reason: the child shows its words and signs for no other ones. The signature is checked before it
    is returned. Raises as `keyfile.unlock` does, and Unavailable when there is no terminal or the child fails.
    """
    if len(message) > MESSAGE_BYTES_MAX:
        raise MalformedInput(f"the message has {len(message)} bytes; at most {MESSAGE_BYTES_MAX} are expected")
    public = read_public(key_path)
    request: dict[str, Json] = {
        "do": "sign",
        "key": str(key_path.absolute()),
        "message": base64.b64encode(message).decode("ascii"),
        "show": list(show),
        "unseen": unseen,
        "blob": base64.b64encode(blob.encoded).decode("ascii") if blob is not None else "",
    }
    if public.kind is KeyKind.SSH and (passphrase_file is not None or passphrase_fd is not None):
        text = f"the key of `{public.person}` is an SSH key, whose passphrase OpenSSH asks for"
        raise MalformedInput(text, help="leave the passphrase file out; put the key into an agent with `ssh-add`")
    said = _exchange(request, public.kind, passphrase_file=passphrase_file, passphrase_fd=passphrase_fd)
    return _checked(said, public, message)


def create_in_child(
    folder: Path,
    person: str,
    kind: KeyKind,
    *,
    created_at: Instant,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
) -> PublicKey:
    """Have a key made in a process of its own, so that its passphrase and private part never come here.

    Asks the passphrase twice on the terminal unless a file or descriptor is named. Raises as `keyfile.create`.
    """
    path = path_of(folder, person)
    request: dict[str, Json] = {
        "do": "create",
        "folder": str(folder.absolute()),
        "person": person,
        "kind": kind.value,
        "created_at": int(created_at),
    }
    _exchange(request, kind, passphrase_file=passphrase_file, passphrase_fd=passphrase_fd)
    return read_public(path)


def _exchange(
    request: dict[str, Json], kind: KeyKind, *, passphrase_file: Path | None, passphrase_fd: int | None
) -> dict[str, Json]:
    """Send one request to a fresh child and return its answer; an error that it reports is raised here."""
    if passphrase_file is not None:
        request["passphrase_file"] = str(passphrase_file.absolute())
    if passphrase_fd is not None:
        request["passphrase_fd"] = passphrase_fd
    ssh = kind is KeyKind.SSH
    a_person_types = (kind.encrypted and passphrase_file is None) or (ssh and request.get("unseen") is not True)
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(CHILD)],
            input=json.dumps(request).encode("utf-8", "surrogateescape"),
            capture_output=True,
            # An environment of ours only: nothing of the caller's reaches the process that holds the key.
            env={"LANG": "C.UTF-8", **(_of_openssh() if ssh else {})},
            pass_fds=() if passphrase_fd is None else (passphrase_fd,),
            timeout=None if a_person_types else SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the signing process gave no answer within {SECONDS_MAX} seconds") from None
    if done.returncode == _INTERRUPTED:
        raise KeyboardInterrupt
    return _answer(done.stdout, done.returncode)


def _of_openssh() -> dict[str, str]:
    """What OpenSSH needs to reach the person's agent and device, and nothing else of the caller's environment."""
    return {name: os.environ[name] for name in openssh.ENVIRONMENT if name in os.environ}


def _answer(content: bytes, code: int) -> dict[str, Json]:
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Unavailable(f"the signing process ended without an answer, with code {code}")
    error = said.get("error")
    if isinstance(error, dict):
        raise _error(error)
    return said


def _error(error: dict[str, Json]) -> KeyturnError:
    name = str(error.get("class"))
    kind = getattr(errors, name) if name in _CLASSES else Unavailable
    raised: KeyturnError = kind(str(error.get("message")), help=str(error.get("help")))
    return raised


def _checked(said: dict[str, Json], public: PublicKey, message: bytes) -> bytes:
    text = f"what the signing process returned is no signature by the key of `{public.person}`"
    wrong = UntrustedInput(text, help="check the key file and try again")
    try:
        made = base64.b64decode(str(said.get("sig")), validate=True)
    except ValueError:
        raise wrong from None
    if not signature.verify(public.public, message, made):
        raise wrong
    return made
