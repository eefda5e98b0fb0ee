"""The containment suite: small programs that try to get out, each with a control that shows that it could.

It never counts doubt as held, and never touches what it did not put out itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.run import check, digest
    from keyturn.sandbox.suite.score import Checked, Control, Inside, Kind, Row

__all__ = ["Checked", "Control", "Inside", "Kind", "Row", "check", "digest"]


def __getattr__(name: str) -> object:
    """Load a name only when it is asked for, so that one file of the suite can be read alone."""
    if name not in __all__:
        raise AttributeError(f"there is no `{name}` here")
    import keyturn.sandbox.suite.run as running
    import keyturn.sandbox.suite.score as scoring

    return getattr(running if name in {"check", "digest"} else scoring, name)
