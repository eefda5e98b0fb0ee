"""Asks on the person's own terminal, never on standard input; a passphrase never with echo."""

from __future__ import annotations

import os
import termios

from keyturn.core.errors import MalformedInput, Unavailable

ANSWER_BYTES_MAX = 100


def ask(lines: tuple[str, ...], *, prompts: tuple[str, ...], bytes_max: int) -> str:
    """Show `lines`, ask once per prompt without echo, and return the answer; all answers must be the same.

    Raises Unavailable where there is no terminal, MalformedInput for answers that differ.
    """
    try:
        handle = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        message = "there is no terminal to ask for the passphrase on"
        raise Unavailable(message, help="`--passphrase-file FILE`, of mode 0600, or a terminal") from None
    try:
        _write(handle, "".join(f"{line}\n" for line in lines))
        answers = [_ask_silently(handle, prompt, bytes_max) for prompt in prompts]
    finally:
        os.close(handle)
    if len(set(answers)) != 1:
        raise MalformedInput("the two passphrases differ", help="try again")
    return answers[0]


def agreed(lines: tuple[str, ...]) -> bool:
    """Show `lines` and say whether the answer is `yes`; raises Unavailable where there is no terminal."""
    try:
        handle = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        message = "there is no terminal to show on what an SSH key is to sign"
        raise Unavailable(message, help="use a terminal, or `--unseen` to sign without having seen it") from None
    try:
        # Flushing drops what was typed before the question was seen.
        termios.tcflush(handle, termios.TCIFLUSH)
        _write(handle, "".join(f"{line}\n" for line in lines) + "sign this? type yes: ")
        return _line(handle, ANSWER_BYTES_MAX).strip() == "yes"
    finally:
        os.close(handle)


def _ask_silently(handle: int, prompt: str, bytes_max: int) -> str:
    before = termios.tcgetattr(handle)
    silent = termios.tcgetattr(handle)
    silent[3] &= ~termios.ECHO
    try:
        # Flushing drops what was typed before the question was seen.
        termios.tcsetattr(handle, termios.TCSAFLUSH, silent)
        _write(handle, prompt)
        return _line(handle, bytes_max)
    finally:
        termios.tcsetattr(handle, termios.TCSAFLUSH, before)
        _write(handle, "\n")


def _line(handle: int, bytes_max: int) -> str:
    typed = os.read(handle, bytes_max + 1)
    try:
        return typed.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedInput("the passphrase is not UTF-8 text", help="check the terminal's encoding") from None


def _write(handle: int, text: str) -> None:
    content = text.encode("utf-8")
    while content:
        content = content[os.write(handle, content) :]
