"""A person's SSH key is enrolled by its public part and used by OpenSSH: real `ssh-keygen`, agent and terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.core.errors import Conflict, MalformedInput, Unavailable, UntrustedInput
from keyturn.core.terms import Custody
from keyturn.keys import openssh
from keyturn.keys.keyfile import KeyKind, path_of, read_public, unlock
from keyturn.keys.signing import sign_in_child
from keyturn.wire import signature
from tests.keys.conftest import AT, PASSPHRASE
from tests.wire.sshkeys import SK_ED25519, SshKey, message

M = message()


def generate(place: Path, *, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A key pair by ssh-keygen; its `.pub` file."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "ada@host", "-f", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    return place.with_suffix(".pub")


@pytest.fixture(autouse=True)
def nobodys_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in openssh.ENVIRONMENT:
        if name != "PATH":
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent of our own that holds nothing yet."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    yield
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def ada_ssh(folder: Path, tmp_path: Path) -> Path:
    """Ada's key file of kind `ssh`, her private key in a file without a passphrase."""
    openssh.enrol(folder, "ada", generate(tmp_path / "id"), created_at=AT)
    return path_of(folder, "ada")


def test_enrolling_keeps_the_public_part_and_no_secret(ada_ssh: Path, tmp_path: Path) -> None:
    public = read_public(ada_ssh)
    words = (tmp_path / "id.pub").read_text().split()
    assert (public.kind, public.public) == (KeyKind.SSH, f"{words[0]} {words[1]}")
    assert (tmp_path / "id").read_text().splitlines()[1] not in ada_ssh.read_text()
    assert ada_ssh.stat().st_mode & 0o777 == 0o600
    with pytest.raises(MalformedInput, match="is not in this file"):
        unlock(ada_ssh)
    with pytest.raises(Conflict, match="never overwritten"):
        openssh.enrol(ada_ssh.parent, "ada", tmp_path / "id.pub", created_at=AT)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_key_file_of_openssh_signs(folder: Path, tmp_path: Path, kind: str) -> None:
    openssh.enrol(folder, "ada", generate(tmp_path / "id", kind=kind), created_at=AT)
    path = path_of(folder, "ada")
    assert signature.verify(read_public(path).public, M, sign_in_child(path, M, unseen=True))


@pytest.mark.usefixtures("agent")
def test_an_agent_signs_without_the_key_file(ada_ssh: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(tmp_path / "id")], check=True, capture_output=True)
    (tmp_path / "id").unlink()
    assert signature.verify(read_public(ada_ssh).public, M, sign_in_child(ada_ssh, M, unseen=True))


@pytest.mark.usefixtures("agent")
def test_an_agent_that_does_not_hold_the_key_is_named(ada_ssh: Path, tmp_path: Path) -> None:
    (tmp_path / "id").unlink()
    with pytest.raises(Unavailable, match="`ssh-keygen` did not sign"):
        sign_in_child(ada_ssh, M, unseen=True)


def test_an_encrypted_key_that_nobody_opens_signs_nothing(folder: Path, tmp_path: Path) -> None:
    openssh.enrol(folder, "ada", generate(tmp_path / "id", passphrase=PASSPHRASE), created_at=AT)
    with pytest.raises(Unavailable, match="`ssh-keygen` did not sign"):
        sign_in_child(path_of(folder, "ada"), M, unseen=True)


def test_attack_another_key_under_the_enrolled_place_is_refused(ada_ssh: Path, tmp_path: Path) -> None:
    for name in ("id", "id.pub"):
        (tmp_path / name).unlink()
    generate(tmp_path / "id")
    with pytest.raises(UntrustedInput, match="no signature by the key of `ada`"):
        sign_in_child(ada_ssh, M, unseen=True)


def test_only_what_people_sign_is_signed(ada_ssh: Path) -> None:
    for text in (b"", b"anything", message("urn:keyturn:permit:v1")):
        with pytest.raises(MalformedInput):
            sign_in_child(ada_ssh, text, unseen=True)


def test_without_a_terminal_nothing_is_signed_unless_asked_for(ada_ssh: Path, passphrase_file: Path) -> None:
    code = "import sys; from pathlib import Path; from keyturn.keys.signing import sign_in_child; "
    code += "sign_in_child(Path(sys.argv[1]), sys.stdin.buffer.read())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ada_ssh)], input=M, capture_output=True, start_new_session=True, check=False
    )
    assert done.returncode != 0
    assert b"no terminal to show on what an SSH key is to sign" in done.stderr
    with pytest.raises(MalformedInput, match="whose passphrase OpenSSH asks for"):
        sign_in_child(ada_ssh, M, passphrase_file=passphrase_file)


@pytest.mark.parametrize(("answer", "end"), [("yes", "done"), ("y", "not `yes`"), ("", "not `yes`")])
def test_on_a_terminal_the_message_is_shown_before_a_yes_signs(ada_ssh: Path, answer: str, end: str) -> None:
    said, shown = converse(ada_ssh, [("sign this? type yes: ", answer)])
    assert end in said
    assert shown.index("Key of ada: you are asked to sign") < shown.index("urn:keyturn:approval:v1")
    assert shown.index("governor says: release c1\\u001b[2J") < shown.index("sign this?")


def test_openssh_asks_for_the_passphrase_of_a_key_file_itself(folder: Path, tmp_path: Path) -> None:
    openssh.enrol(folder, "ada", generate(tmp_path / "id", passphrase=PASSPHRASE), created_at=AT)
    prompts = [("sign this? type yes: ", "yes"), ("Enter passphrase", PASSPHRASE)]
    said, shown = converse(path_of(folder, "ada"), prompts)
    assert "done" in said
    assert PASSPHRASE not in shown


def converse(path: Path, answers: list[tuple[str, str]]) -> tuple[str, str]:
    """Sign on a terminal of its own, answering each prompt; return the last word and the screen."""
    import pty

    code = """
        import fcntl, os, sys, termios
        os.setsid()
        fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
        from pathlib import Path
        from keyturn.core.errors import KeyturnError
        from keyturn.keys.signing import sign_in_child
        try:
            sign_in_child(Path(sys.argv[2]), bytes.fromhex(sys.argv[3]), show=["release c1\\x1b[2J"])
            print("done")
        except KeyturnError as error:
            print(error.message)
    """
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", textwrap.dedent(code), str(theirs), str(path), M.hex()]
    process = subprocess.Popen(command, pass_fds=(theirs,), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    shown = ""
    try:
        for prompt, answer in answers:
            while prompt not in shown[-200:]:
                shown += os.read(ours, 65_536).decode(errors="replace")
            os.write(ours, f"{answer}\n".encode())
        said = process.communicate(timeout=30)[0]
        os.set_blocking(ours, False)
        shown += os.read(ours, 10_000).decode(errors="replace")
    finally:
        os.close(ours)
        os.close(theirs)
    return said, shown


def test_a_file_that_is_no_public_ssh_key_is_named(folder: Path, tmp_path: Path) -> None:
    generate(tmp_path / "id")
    generate(tmp_path / "rsa", kind="rsa")
    (tmp_path / "two.pub").write_text((tmp_path / "id.pub").read_text() * 2)
    for name, said in (
        ("id", "does not hold one public SSH key"),
        ("two.pub", "does not hold one public SSH key"),
        ("rsa.pub", "type `ssh-rsa` may not sign"),
        ("absent.pub", "no public SSH key"),
    ):
        with pytest.raises(MalformedInput, match=said):
            openssh.enrol(folder, "ada", tmp_path / name, created_at=AT)
    assert not path_of(folder, "ada").exists()


def test_custody_is_seen_of_a_private_key_file_and_of_nothing_else(ada_ssh: Path, tmp_path: Path) -> None:
    def seen(path: Path) -> Custody | None:
        return openssh.custody_seen(path, governor_uid=os.geteuid(), project_dir=tmp_path)

    assert seen(ada_ssh) is Custody.SHARED_ACCOUNT
    (tmp_path / "id").unlink()
    assert seen(ada_ssh) is None
    (tmp_path / "sk.pub").write_text(f"{SshKey(SK_ED25519).public} token\n")
    (tmp_path / "sk").write_text("a handle, which is no key without its device")
    openssh.enrol(ada_ssh.parent, "ben", tmp_path / "sk.pub", created_at=AT)
    assert seen(path_of(ada_ssh.parent, "ben")) is None


@pytest.mark.parametrize("change", ['"place"', '"kind": "ssh"', '"encryption"', '"ssh-ed25519 '])
def test_a_changed_key_file_is_no_whole_one(ada_ssh: Path, change: str) -> None:
    ada_ssh.write_text(ada_ssh.read_text().replace(change, change.replace("e", "o").replace('"ssh"', '"ed25519"')))
    with pytest.raises(MalformedInput):
        read_public(ada_ssh)
