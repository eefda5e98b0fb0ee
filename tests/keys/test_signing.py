"""A signature is made in a process of its own, and the passphrase is nowhere else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keyturn.core.errors import Conflict, MalformedInput, Unavailable, UntrustedInput
from keyturn.keys import signing
from keyturn.keys.keyfile import KeyKind, create, path_of, read_public
from keyturn.keys.signing import CHILD, create_in_child, sign_in_child
from tests.keys.conftest import AT, PASSPHRASE

MESSAGE = b"DSSEv1 a message that was reviewed"


def verifies(key_path: Path, signature: bytes, message: bytes) -> bool:
    """Whether the signature is by this key over this message; raises when it is not."""
    Ed25519PublicKey.from_public_bytes(read_public(key_path).raw).verify(signature, message)
    return True


def pipe_holding(content: bytes) -> int:
    """A descriptor from which `content` can be read once."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader


def test_an_encrypted_key_signs_with_a_passphrase_file(ada: Path, passphrase_file: Path) -> None:
    assert verifies(ada, sign_in_child(ada, MESSAGE, passphrase_file=passphrase_file), MESSAGE)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"", b"\nsecond line\n"])
def test_an_encrypted_key_signs_with_a_passphrase_descriptor(ada: Path, ending: bytes) -> None:
    handle = pipe_holding(PASSPHRASE.encode() + ending)
    try:
        assert verifies(ada, sign_in_child(ada, MESSAGE, passphrase_fd=handle), MESSAGE)
    finally:
        os.close(handle)


@pytest.mark.parametrize("kind", [KeyKind.SIMULATED, KeyKind.SERVICE])
def test_an_unencrypted_key_signs_and_asks_nothing(folder: Path, kind: KeyKind) -> None:
    create(folder, "ada", kind, created_at=AT)
    path = path_of(folder, "ada")
    assert verifies(path, sign_in_child(path, MESSAGE, show=("never shown",)), MESSAGE)


def test_any_bytes_can_be_signed_up_to_the_limit(folder: Path) -> None:
    create(folder, "ada", KeyKind.SIMULATED, created_at=AT)
    path = path_of(folder, "ada")
    for message in (b"", bytes(range(256)), b"x" * signing.MESSAGE_BYTES_MAX):
        assert verifies(path, sign_in_child(path, message), message)
    with pytest.raises(MalformedInput, match="at most 1000000 are expected"):
        sign_in_child(path, b"x" * (signing.MESSAGE_BYTES_MAX + 1))


def test_a_key_is_made_in_a_process_of_its_own(folder: Path, passphrase_file: Path) -> None:
    made = create_in_child(folder, "ada", KeyKind.ED25519, created_at=AT, passphrase_file=passphrase_file)
    path = path_of(folder, "ada")
    assert made == read_public(path)
    assert verifies(path, sign_in_child(path, MESSAGE, passphrase_file=passphrase_file), MESSAGE)
    with pytest.raises(Conflict, match="never overwritten"):
        create_in_child(folder, "ada", KeyKind.ED25519, created_at=AT, passphrase_file=passphrase_file)


def test_attack_wrong_passphrase_gives_one_clear_message(ada: Path) -> None:
    handle = pipe_holding(b"wrong\n")
    try:
        with pytest.raises(UntrustedInput) as caught:
            sign_in_child(ada, MESSAGE, passphrase_fd=handle)
    finally:
        os.close(handle)
    assert caught.value.message == "the passphrase does not open the key of `ada`, or the key file was altered"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xff\n", b"x" * 5000])
def test_attack_an_unusable_passphrase_is_refused_without_being_quoted(ada: Path, content: bytes) -> None:
    handle = pipe_holding(content)
    try:
        with pytest.raises(MalformedInput) as caught:
            sign_in_child(ada, MESSAGE, passphrase_fd=handle)
    finally:
        os.close(handle)
    assert "xx" not in caught.value.message + caught.value.help
    assert "\\xff" not in caught.value.message


def test_attack_a_passphrase_file_that_others_can_read_is_refused(ada: Path, passphrase_file: Path) -> None:
    passphrase_file.chmod(0o644)
    with pytest.raises(UntrustedInput, match="has mode 0644; 0600 is expected"):
        sign_in_child(ada, MESSAGE, passphrase_file=passphrase_file)


def test_attack_a_passphrase_file_that_is_a_link_is_refused(ada: Path, passphrase_file: Path) -> None:
    link = passphrase_file.with_name("link")
    link.symlink_to(passphrase_file)
    with pytest.raises(UntrustedInput, match="is a link"):
        sign_in_child(ada, MESSAGE, passphrase_file=link)


class Tap:
    """Records everything that crosses between the governor and the signing process."""

    def __init__(self, real: Any) -> None:
        self.real, self.crossed, self.kept = real, b"", {}

    def __call__(self, command: list[str], **options: Any) -> Any:
        done = self.real(command, **options)
        self.crossed += options["input"] + done.stdout + done.stderr
        self.crossed += repr((command, options["env"])).encode()
        self.kept = json.loads(done.stdout)
        return done


def test_the_protocol_carries_no_passphrase_and_no_private_key(
    ada: Path, passphrase_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keyturn.keys.keyfile import unlock

    tap = Tap(subprocess.run)
    monkeypatch.setattr(subprocess, "run", tap)
    sign_in_child(ada, MESSAGE, passphrase_file=passphrase_file)
    raw = unlock(ada, PASSPHRASE).private_bytes_raw()
    for secret in (PASSPHRASE.encode(), base64.b64encode(PASSPHRASE.encode()), raw, base64.b64encode(raw)):
        assert secret not in tap.crossed
    assert set(tap.kept) == {"public", "sig"}


def test_nothing_of_the_callers_environment_reaches_the_child(
    ada: Path, passphrase_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nonexistent/evil")
    monkeypatch.setenv("LD_PRELOAD", "")
    tap = Tap(subprocess.run)
    monkeypatch.setattr(subprocess, "run", tap)
    sign_in_child(ada, MESSAGE, passphrase_file=passphrase_file)
    assert b"evil" not in tap.crossed
    assert b"LD_PRELOAD" not in tap.crossed


def proc_bytes(name: str) -> dict[int, bytes]:
    """`/proc/PID/name` of every process that lets us read it."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / name).read_bytes()
            except OSError:
                continue
    return found


def signing_child(marker: bytes) -> int | None:
    """The process whose command line is that of the signing process, started by this test."""
    lines = proc_bytes("cmdline")
    ours = {pid for pid, line in lines.items() if marker in line and f"\0{os.getpid()}\0".encode() not in line}
    return next((pid for pid in ours if parent_of(pid) == os.getpid()), None)


def parent_of(pid: int) -> int:
    """The parent's id of a process, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def core_limits(child: int | None) -> list[str]:
    """How large a core dump of this process may become, softly and hardly."""
    return Path(f"/proc/{child}/limits").read_text().partition("Max core file size")[2].split()[:2]


def test_attack_no_process_shows_the_passphrase_in_its_command_line_or_environment(ada: Path) -> None:
    reader, writer = os.pipe()
    result: list[bytes] = []
    thread = threading.Thread(target=lambda: result.append(sign_in_child(ada, MESSAGE, passphrase_fd=reader)))
    thread.start()
    os.write(writer, PASSPHRASE.encode())  # without its end of line: the child waits for more
    child = None
    end = time.monotonic() + 10
    while child is None and time.monotonic() < end:
        child = signing_child(str(CHILD).encode())
        time.sleep(0.005)
    while core_limits(child) != ["0", "0"] and time.monotonic() < end:
        time.sleep(0.005)  # it starts slowly on a busy machine, and protects itself before it reads anything
    shown = {**proc_bytes("cmdline"), **{-pid: text for pid, text in proc_bytes("environ").items()}}
    limits = core_limits(child)
    os.close(writer)
    thread.join(10)
    os.close(reader)
    assert child in shown, "the signing process was not seen"
    assert not [pid for pid, text in shown.items() if PASSPHRASE.encode() in text]
    assert limits == ["0", "0"]
    assert verifies(ada, result[0], MESSAGE)


def memory_holds(pid: int, needle: bytes) -> bool:
    """Whether any readable memory of a process contains the needle."""
    place = Path(f"/proc/{pid}")
    with (place / "maps").open() as maps, (place / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            (
                span,
                mode,
                *_,
            ) = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if "r" not in mode or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            try:
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


GOVERNOR = """
    import sys
    from pathlib import Path
    from keyturn.keys.signing import sign_in_child
    marker = "seen in the memory of " + "the governor"
    path, passphrase = Path(sys.argv[1]), Path(sys.argv[2])
    sign_in_child(path, b"m", passphrase_file=passphrase)
    print("signed", flush=True)
    sys.stdin.read()
"""


def test_attack_the_governors_memory_never_holds_the_passphrase(ada: Path, passphrase_file: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(GOVERNOR), str(ada), str(passphrase_file)]
    governor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert governor.stdout is not None
    try:
        assert governor.stdout.readline() == b"signed\n"
        assert memory_holds(governor.pid, b"seen in the memory of the governor"), "the search itself is blind"
        assert not memory_holds(governor.pid, PASSPHRASE.encode())
    finally:
        governor.communicate()


def test_the_child_lets_nobody_read_its_memory_and_leaves_no_core_dump() -> None:
    script = (
        "import ctypes, resource; from keyturn.keys.signer import harden; harden();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "0 (0, 0)\n"


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"[]", b"{}", b'{"do": "export"}', b'{"do": "sign"}', b'{"do": "sign", "key": 1, "message": "%"}', b"\xff"],
)
def test_attack_a_malformed_request_gets_a_refusal_and_no_trace(request_bytes: bytes) -> None:
    done = subprocess.run([sys.executable, "-I", str(CHILD)], input=request_bytes, capture_output=True, check=False)
    assert json.loads(done.stdout)["error"]["class"] == "MalformedInput"
    assert done.returncode == 2
    assert done.stderr == b""


class Puppet:
    """Stands in for a signing process that lies or dies."""

    def __init__(self, stdout: bytes, code: int = 0) -> None:
        self.done = subprocess.CompletedProcess([], code, stdout, b"")

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self.done


@pytest.mark.parametrize("sig", ["", "AAAA", base64.b64encode(bytes(64)).decode(), "not base64!"])
def test_attack_a_signature_that_does_not_verify_is_never_returned(
    ada: Path, monkeypatch: pytest.MonkeyPatch, sig: str
) -> None:
    monkeypatch.setattr(subprocess, "run", Puppet(json.dumps({"public": "x", "sig": sig}).encode()))
    with pytest.raises(UntrustedInput, match="no signature by the key of `ada`"):
        sign_in_child(ada, MESSAGE)


@pytest.mark.parametrize("stdout", [b"", b"nonsense", b"[1]"])
def test_a_child_that_dies_is_unavailable_not_a_refusal(
    ada: Path, monkeypatch: pytest.MonkeyPatch, stdout: bytes
) -> None:
    monkeypatch.setattr(subprocess, "run", Puppet(stdout, -9))
    with pytest.raises(Unavailable, match="ended without an answer, with code -9"):
        sign_in_child(ada, MESSAGE)


def test_an_interrupted_child_interrupts_its_caller(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Puppet(b"", 130))
    with pytest.raises(KeyboardInterrupt):
        sign_in_child(ada, MESSAGE)
