"""A governed run as a process of its own: `python -m keyturn.adapters.openevolve`, started by `keyturn openevolve run`.

It holds the endpoint's key and the user's evaluator; whoever started it reads what it reports, a JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import threading
from collections.abc import Mapping
from typing import IO

from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.terms import Json
from keyturn.sdk.errors import Refused
from keyturn.sdk.run import Outcome

INTERRUPTED = 130


class Reports(logging.Handler):
    """Writes reports to what was standard output; what the governor says while it works is one of them."""

    def __init__(self, sink: IO[str]) -> None:
        super().__init__()
        self._sink, self._lines = sink, threading.Lock()

    def report(self, message: Mapping[str, Json]) -> None:
        """One report, on one line."""
        with self._lines:
            self._sink.write(json.dumps(message) + "\n")
            self._sink.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """What the SDK logs of the governor's progress."""
        self.report({"type": "tell", "text": record.getMessage()})


def main() -> int:
    """Run, report how it ended, and give the exit code."""
    asked = arguments().parse_args()
    reports = Reports(_taken_output())
    sdk = logging.getLogger("keyturn.sdk")
    sdk.setLevel(logging.INFO)
    sdk.addHandler(reports)
    try:
        held = _held(asked, reports)
    except Refused as fault:
        reports.report({"type": "no", "step": fault.step, "why": fault.message, "help": fault.help, **_found(fault)})
        return fault.exit_code
    except KeyturnError as fault:
        said: dict[str, Json] = {"message": fault.message, "help": fault.help, "exit_code": fault.exit_code}
        reports.report({"type": "error", **said})
        return fault.exit_code
    except KeyboardInterrupt:
        held = None
    if held is None:
        reports.report({"type": "interrupted"})
        return INTERRUPTED
    reports.report(_outcome(held))
    return 0


def arguments() -> argparse.ArgumentParser:
    """What the command line holds."""
    parser = argparse.ArgumentParser(prog="python -m keyturn.adapters.openevolve")
    parser.add_argument("initial_program")
    parser.add_argument("evaluator")
    parser.add_argument("--project", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--config")
    parser.add_argument("--held-out")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--checkpoint")
    parser.add_argument("--shadow", action="store_true")
    return parser


def _held(asked: argparse.Namespace, reports: Reports) -> Outcome | None:
    try:
        from keyturn.adapters.openevolve.run import run_evolution
    except ModuleNotFoundError as fault:
        raise Unavailable(f"{fault.name} is not installed", help="`pip install keyturn[openevolve]`") from fault
    return run_evolution(
        asked.initial_program,
        asked.evaluator,
        config=asked.config,
        iterations=asked.iterations,
        output_dir=asked.output,
        cleanup=False,
        checkpoint_path=asked.checkpoint,
        project=asked.project,
        shadow=asked.shadow,
        held_out=asked.held_out,
        report=reports.report,
    ).held


def _found(fault: Refused) -> dict[str, Json]:
    return {"findings": [finding.to_json() for finding in fault.findings], "exit_code": fault.exit_code}


def _outcome(held: Outcome) -> dict[str, Json]:
    findings: list[Json] = [finding.to_json() for finding in held.findings]
    made: dict[str, Json] = {"step": held.step, "candidate": held.candidate, "dossier": held.dossier}
    rest: dict[str, Json] = {"released": held.released, "shadow": held.shadow, "findings": findings}
    return {"type": "outcome", **made, **rest}


def _taken_output() -> IO[str]:
    """Standard output, moved to where nothing that an evaluator prints can disturb it."""
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return sink


if __name__ == "__main__":
    raise SystemExit(main())
