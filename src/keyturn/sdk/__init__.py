"""What a loop in another process asks of the governor: run this program sealed, may it stay, propose the best.

It never runs a program in the loop's own process, never holds a key, never judges, and never writes the log: it carries
questions and answers. What a program sends back is read as data and nothing else.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the real one would cost an import
if TYPE_CHECKING:
    from keyturn.sdk.errors import ProgramEnded, ProgramFailed, ProgramRefused, Refused, Stopped
    from keyturn.sdk.program import Admission, Program
    from keyturn.sdk.run import Outcome, Run, govern
    from keyturn.sdk.stub import stub_for
    from keyturn.sdk.worker import Worker, attach

__all__ = [
    "Admission",
    "Outcome",
    "Program",
    "ProgramEnded",
    "ProgramFailed",
    "ProgramRefused",
    "Refused",
    "Run",
    "Stopped",
    "Worker",
    "attach",
    "govern",
    "stub_for",
]


def __getattr__(name: str) -> object:
    """What the room offers, loaded when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"`keyturn.sdk` has no `{name}`; it offers {', '.join(__all__)}")
    from keyturn.sdk import errors, program, run, stub, worker

    homes = (errors, program, run, stub, worker)
    return next(vars(home)[name] for home in homes if name in vars(home))
