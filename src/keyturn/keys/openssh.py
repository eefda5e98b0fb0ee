"""People's SSH keys: enrolled by their public part, used by OpenSSH in a process of its own.

Never reads a private key and never asks for its passphrase: `ssh-keygen` asks the agent, the file or the device.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from keyturn.core.errors import MalformedInput, Unavailable, UntrustedInput
from keyturn.core.keys.public import read_ssh
from keyturn.core.terms import Custody, Instant
from keyturn.keys import custody, keyfile
from keyturn.wire.ssh import check, sshsig

FILE_BYTES_MAX: Final = 16_384
ENVIRONMENT: Final = (
    "DISPLAY",
    "HOME",
    "PATH",
    "SSH_ASKPASS",
    "SSH_ASKPASS_REQUIRE",
    "SSH_AUTH_SOCK",
    "SSH_SK_PROVIDER",
    "TERM",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
)
"""What OpenSSH needs of a person's environment to reach their agent, their device and their screen."""


def enrol(folder: Path, person: str, file: Path, *, created_at: Instant) -> keyfile.PublicKey:
    """Write the key file of a person who signs with the SSH key whose `.pub` file this is.

    Raises MalformedInput for what is no such file, and as `keyfile.enrol_ssh` does.
    """
    return keyfile.enrol_ssh(folder, person, _line(file), file.absolute(), created_at=created_at)


def custody_seen(path: Path, *, governor_uid: int, project_dir: Path) -> Custody | None:
    """Where the private part lies, as weakly as can be shown; None where only an agent or a device holds it."""
    place = keyfile.ssh_place(path)
    private = place.with_suffix("")
    if read_ssh(keyfile.read_public(path).public).security_key or place.suffix != ".pub" or not private.exists():
        return None
    return custody.custody_of(private, governor_uid=governor_uid, project_dir=project_dir)


def sign(place: Path, message: bytes, *, unseen: bool) -> bytes:
    """Have `ssh-keygen -Y sign` sign a person's statement in the namespace of its kind, and return the SSHSIG.

    It asks for a passphrase, a PIN or a touch on the terminal; `unseen` keeps it from asking anybody. Raises
    Unavailable when it does not sign, UntrustedInput for what is no signature.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise Unavailable("there is no `ssh-keygen` to sign with", help="install OpenSSH: package openssh-client")
    # By a file, not standard input: OpenSSH asks for a passphrase only where that is a terminal.
    with tempfile.TemporaryDirectory(prefix="keyturn-") as folder:
        text = Path(folder) / "message"
        text.write_bytes(message)
        command = [program, "-q", "-Y", "sign", "-n", check.namespace_of(message), "-f", str(place), str(text)]
        code, said = _run(command, unseen=unseen)
        made = Path(f"{text}.sig").read_bytes() if code == 0 else b""
    if code != 0:
        why = f": {said[-1][:200]}" if said else ""
        raise Unavailable(
            f"`ssh-keygen` did not sign{why}", help=f"`ssh-add -l`; is the private part of `{place}` here?"
        )
    try:
        return sshsig.unarmor(made.decode("ascii"))
    except (UnicodeDecodeError, MalformedInput):
        raise UntrustedInput("what `ssh-keygen` returned is no signature", help="try again") from None


def _run(command: list[str], *, unseen: bool) -> tuple[int, list[str]]:
    """Run OpenSSH on the person's terminal, or, `unseen`, where it has none; its exit code and its complaints."""
    place = os.devnull if unseen else "/dev/tty"
    terminal = os.open(place, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        done = subprocess.run(
            command,
            stdin=terminal,
            stdout=subprocess.DEVNULL,
            # A device's "confirm user presence" goes to standard error, if that is a terminal.
            stderr=subprocess.PIPE if unseen else terminal,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            start_new_session=unseen,
            check=False,
        )
    finally:
        os.close(terminal)
    return done.returncode, (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()


def _line(file: Path) -> str:
    """The key's type and base64, without the comment."""
    help = "name the public part, for example `~/.ssh/id_ed25519.pub`"
    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES_MAX + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise MalformedInput(f"there is no public SSH key in `{file}`", help=help) from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = lines[0].split(" ") if lines else []
    if len(lines) != 1 or len(words) < 2 or "PRIVATE" in text:
        raise MalformedInput(f"`{file}` does not hold one public SSH key", help=help)
    line = f"{words[0]} {words[1].strip()}"
    read_ssh(line)
    return line
