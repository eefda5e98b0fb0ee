"""One file per person that holds an Ed25519 key: made once, read with suspicion, opened only by its passphrase.

Never overwrites a key, never follows a link, and never reads a key that other accounts could read or replace.
The private part of kind `ed25519` is encrypted with ChaCha20-Poly1305 under a key that Argon2id (RFC 9106, its
second recommended setting) derives from the passphrase; the rest of the file is bound to it as associated data.
PKCS8 from the same library would stretch the passphrase with 2048 rounds of PBKDF2 only, and the OpenSSH format
needs a package that Keyturn does not depend on. Kinds `simulated` and `service` are not encrypted and say so. A file
of kind `ssh` holds no secret: it says where OpenSSH finds the public key whose private part an agent or a file holds.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyturn.core.errors import Conflict, MalformedInput, Unavailable, UntrustedInput
from keyturn.core.keys.public import read_ssh
from keyturn.core.terms import Instant, Json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SCHEMA: Final = 1
BYTES_MAX: Final = 16_384
PASSPHRASE_BYTES_MAX: Final = 1024
ENCRYPTION: Final = "argon2id, chacha20-poly1305"
UNENCRYPTED: Final = "none: whoever reads this file can sign"
ELSEWHERE: Final = "elsewhere: OpenSSH holds the private part"
KDF: Final[dict[str, Json]] = {"iterations": 3, "lanes": 4, "memory_kib": 65_536}
_HEADER: Final = ("schema", "person", "kind", "public", "created_at")
_SECRET: Final = ("encryption", "iterations", "lanes", "memory_kib", "salt", "nonce", "bytes")


class KeyKind(StrEnum):
    """Whose key it is: a person's, one of a demo, or the governor's own for requests under a warrant."""

    ED25519 = "ed25519"
    SSH = "ssh"
    SIMULATED = "simulated"
    SERVICE = "service"

    @property
    def encrypted(self) -> bool:
        """Whether a passphrase stands between the file and a signature."""
        return self is KeyKind.ED25519


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What a key file says without its passphrase; `public` is base64 of 32 raw bytes, or the line of an SSH key."""

    person: str
    kind: KeyKind
    public: str
    created_at: Instant

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the public key."""
        return base64.b64decode(self.public)


def path_of(folder: Path, person: str) -> Path:
    """Name the file of a person's key in `folder`; raises MalformedInput for an id that is no plain name."""
    plain = person.isascii() and person.replace("-", "").isalnum() and person == person.lower()
    if not plain or person.startswith("-") or len(person) > 41:
        message = f"`{person}` is not an id; lower-case letters, digits and inner hyphens are expected"
        raise MalformedInput(message, help="use the id under which the policy names the person")
    return folder / f"{person}.json"


def create(
    folder: Path, person: str, kind: KeyKind, *, passphrase: str | None = None, created_at: Instant
) -> PublicKey:
    """Make a new key, write it to `folder` (0700) as a file of mode 0600, and return its public part.

    Raises MalformedInput for a passphrase that is missing or would protect nothing, Conflict when the person has
    a key file, UntrustedInput when other accounts may enter the folder.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = path_of(folder, person)
    _check_passphrase_given(kind, passphrase)
    _prepare_folder(folder)
    key = Ed25519PrivateKey.generate()
    public = PublicKey(person, kind, _text(key.public_key().public_bytes_raw()), created_at)
    secret = _hide(key.private_bytes_raw(), public, passphrase)
    content = json.dumps({**_header(public), "private": secret}, indent=2, sort_keys=True) + "\n"
    write_private_file(path, content.encode("ascii"))
    return public


def enrol_ssh(folder: Path, person: str, line: str, place: Path, *, created_at: Instant) -> PublicKey:
    """Write the file of a person who signs with the SSH key `line`, which OpenSSH finds under `place`.

    Raises as `create` does, and MalformedInput for a key of a type that may not sign.
    """
    path = path_of(folder, person)
    read_ssh(line)
    _prepare_folder(folder)
    public = PublicKey(person, KeyKind.SSH, line, created_at)
    secret: dict[str, Json] = {"encryption": ELSEWHERE, "place": str(place)}
    content = json.dumps({**_header(public), "private": secret}, indent=2, sort_keys=True) + "\n"
    write_private_file(path, content.encode("ascii"))
    return public


def ssh_place(path: Path) -> Path:
    """Where OpenSSH finds the public key of a key file of kind `ssh`; raises as `read_public` does."""
    public, secret = _parse(path)
    if public.kind is not KeyKind.SSH:
        raise MalformedInput(f"the key of `{public.person}` is no SSH key", help="name a key file of kind `ssh`")
    return Path(os.fsdecode(secret["place"]))


def read_public(path: Path) -> PublicKey:
    """Read who a key file belongs to and its public key; asks for no passphrase and opens nothing.

    Raises MalformedInput (absent, cut short, not a key file), UntrustedInput (a link, loose mode, other owner).
    """
    return _parse(path)[0]


def unlock(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    """Open the private key. Call it only in the signing process: what it returns must never be elsewhere.

    Raises as `read_public` does, and UntrustedInput with one and the same message whether the passphrase is
    wrong or the file was altered.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public, secret = _parse(path)
    if public.kind is KeyKind.SSH:
        raise MalformedInput(f"the private key of `{public.person}` is not in this file", help="OpenSSH holds it")
    _check_passphrase_given(public.kind, passphrase)
    raw = _reveal(secret, public, passphrase)
    key = Ed25519PrivateKey.from_private_bytes(raw)
    if key.public_key().public_bytes_raw() != public.raw:
        raise _wrong(public.person)
    return key


def _header(public: PublicKey) -> dict[str, Json]:
    return {
        "schema": SCHEMA,
        "person": public.person,
        "kind": public.kind.value,
        "public": public.public,
        "created_at": int(public.created_at),
    }


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _check_passphrase_given(kind: KeyKind, passphrase: str | None) -> None:
    if kind.encrypted and not (passphrase or "").strip():
        message = f"a key of kind `{kind}` needs a passphrase and an empty one was given"
        raise MalformedInput(message, help="choose a passphrase of several words")
    if kind.encrypted and len((passphrase or "").encode("utf-8", "surrogatepass")) > PASSPHRASE_BYTES_MAX:
        raise MalformedInput(f"the passphrase is longer than {PASSPHRASE_BYTES_MAX} bytes", help="shorten it")
    if not kind.encrypted and passphrase is not None:
        message = f"a key of kind `{kind}` is not encrypted, so a passphrase would protect nothing"
        raise MalformedInput(message, help="leave the passphrase out, or make a key of kind `ed25519`")


# --- the encryption ---------------------------------------------------------------------------------------


def _hide(raw: bytes, public: PublicKey, passphrase: str | None) -> dict[str, Json]:
    if passphrase is None:
        return {"encryption": UNENCRYPTED, "bytes": _text(raw)}
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    salt, nonce = os.urandom(16), os.urandom(12)
    secret: dict[str, Json] = {"encryption": ENCRYPTION, **KDF, "salt": _text(salt), "nonce": _text(nonce)}
    cipher = ChaCha20Poly1305(_stretch(passphrase, salt))
    return {**secret, "bytes": _text(cipher.encrypt(nonce, raw, _bound(public)))}


def _reveal(secret: dict[str, bytes], public: PublicKey, passphrase: str | None) -> bytes:
    if passphrase is None:
        return secret["bytes"]
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    cipher = ChaCha20Poly1305(_stretch(passphrase, secret["salt"]))
    try:
        return cipher.decrypt(secret["nonce"], secret["bytes"], _bound(public))
    except InvalidTag:
        # No cause is kept: which of the two it was must not show.
        raise _wrong(public.person) from None


def _wrong(person: str) -> UntrustedInput:
    message = f"the passphrase does not open the key of `{person}`, or the key file was altered"
    return UntrustedInput(message, help="try the passphrase again, or restore the key file from your own copy")


def _bound(public: PublicKey) -> bytes:
    """The header in one fixed spelling, so that no field can be changed without breaking the encryption."""
    return json.dumps(_header(public), sort_keys=True, separators=(",", ":")).encode("ascii")


def _stretch(passphrase: str, salt: bytes) -> bytes:
    import unicodedata

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    # Two keyboards may spell one accent in two ways; NFC makes them the same passphrase.
    typed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    try:
        kdf = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536)
    except UnsupportedAlgorithm as error:
        message = "this build of the cryptography library has no Argon2id, which key files need"
        raise Unavailable(message, help="install a cryptography package built with OpenSSL 3.2 or later") from error
    return kdf.derive(typed)


# --- the file ---------------------------------------------------------------------------------------------


def _prepare_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _check_folder(folder, forbidden=0o077)


def _check_folder(folder: Path, *, forbidden: int) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        message = f"`{folder}` is not a folder, or is a link to one"
        raise UntrustedInput(message, help="name the folder itself, not a link")
    if found.st_mode & forbidden:
        message = f"the key folder `{folder}` has mode {found.st_mode & 0o777:04o}; 0700 is expected"
        raise UntrustedInput(message, help=f"close it with `chmod 700 {folder}`")


def write_private_file(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, on the disk when this returns; raises Conflict where there is one already."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o600)
    except FileExistsError:
        message = f"`{path}` exists already; a key is never overwritten"
        raise Conflict(message, help="move the old file away yourself if you mean to replace the key") from None
    try:
        os.fchmod(handle, 0o600)
        _write_all(handle, content)
        os.fsync(handle)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(handle)
    _sync_folder(path.parent)


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_private_file(path: Path, *, bytes_max: int) -> bytes:
    """Read a small file that only its owner may read or write; also used for passphrase files.

    Raises MalformedInput (absent, too long) and UntrustedInput (a link, not a regular file, mode looser than
    0600, of another owner, with a second name).
    """
    # O_NONBLOCK: opening a pipe that someone put there must not hang.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise _cannot_open(path, error) from None
    try:
        _check_private(path, os.fstat(handle))
        content = os.read(handle, bytes_max + 1)
    finally:
        os.close(handle)
    if len(content) > bytes_max:
        raise MalformedInput(f"`{path}` is longer than {bytes_max} bytes", help="name the right file")
    return content


def _cannot_open(path: Path, error: OSError) -> MalformedInput | UntrustedInput | Unavailable:
    if error.errno == errno.ELOOP:
        return UntrustedInput(f"`{path}` is a link; a regular file is expected", help="name the file itself")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MalformedInput(f"there is no file `{path}`", help="check the name; `keyturn key new` makes a key")
    return Unavailable(f"`{path}` cannot be opened: {os.strerror(error.errno or 0).lower()}")


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UntrustedInput(f"`{path}` is not a regular file", help="name the file itself")
    if found.st_mode & 0o177:
        message = f"`{path}` has mode {found.st_mode & 0o777:04o}; 0600 is expected"
        raise UntrustedInput(message, help=f"close it with `chmod 600 {path}`; if others had access, make a new key")
    if os.geteuid() not in (0, found.st_uid):
        message = f"`{path}` belongs to user {found.st_uid}; user {os.geteuid()} is expected"
        raise UntrustedInput(message, help="use a key file of your own")
    if found.st_nlink != 1:
        message = f"`{path}` has {found.st_nlink} names; one is expected"
        raise UntrustedInput(message, help="find and remove the other hard links")


def _parse(path: Path) -> tuple[PublicKey, dict[str, bytes]]:
    content = read_private_file(path, bytes_max=BYTES_MAX)
    _check_folder(path.parent, forbidden=0o022)
    try:
        data = json.loads(content, object_pairs_hook=_no_duplicates)
        public = _public_of(data)
        secret = _secret_of(data["private"], public.kind)
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"`{path}` is not a whole key file"
        raise MalformedInput(message, help="restore it from your own copy, or make a new key") from None
    if public.person != path.stem:
        message = f"`{path}` holds the key of `{public.person}`; the key of `{path.stem}` is expected"
        raise UntrustedInput(message, help=f"name it `{public.person}.json`")
    return public, secret


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _public_of(data: dict[str, Json]) -> PublicKey:
    created_at = data["created_at"]
    if set(data) != {*_HEADER, "private"} or data["schema"] != SCHEMA or type(created_at) is not int:
        raise ValueError("not this schema")
    public = PublicKey(str(data["person"]), KeyKind(str(data["kind"])), str(data["public"]), Instant(created_at))
    if public.kind is KeyKind.SSH:
        read_ssh(public.public)
    else:
        _bytes(public.public, 32)
    return public


def _secret_of(data: Json, kind: KeyKind) -> dict[str, bytes]:
    if not isinstance(data, dict):
        raise TypeError("not an object")
    if kind is KeyKind.SSH:
        if set(data) != {"encryption", "place"} or data["encryption"] != ELSEWHERE:
            raise ValueError("not an SSH key")
        return {"place": os.fsencode(str(data["place"]))}
    if not kind.encrypted:
        if set(data) != {"encryption", "bytes"} or data["encryption"] != UNENCRYPTED:
            raise ValueError("not an unencrypted key")
        return {"bytes": _bytes(data["bytes"], 32)}
    # The work factors are fixed by the schema: a file cannot ask for less, nor for all the memory there is.
    expected = {"encryption": ENCRYPTION, **KDF}
    if set(data) != set(_SECRET) or any(data[name] != value for name, value in expected.items()):
        raise ValueError("not this encryption")
    return {name: _bytes(data[name], size) for name, size in (("salt", 16), ("nonce", 12), ("bytes", 48))}


def _bytes(value: Json, size: int) -> bytes:
    try:
        raw = base64.b64decode(str(value), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if len(raw) != size or _text(raw) != value:
        raise ValueError("not of this length")
    return raw
