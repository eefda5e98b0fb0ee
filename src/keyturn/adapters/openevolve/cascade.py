"""Where a cascade of evaluations ends: OpenEvolve calls stage by stage and tells nobody which call was the last.

The rules are upstream's; `tests/adapters/test_openevolve_contract.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


def passes(metrics: Mapping[str, object], threshold: float) -> bool:
    """Whether metrics reach a threshold: by `combined_score`, or else by the mean of the plain numbers."""
    combined = metrics.get("combined_score")
    if isinstance(combined, int | float):
        return float(combined) >= threshold
    numbers = [
        float(value)
        for name, value in metrics.items()
        if name != "error" and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return bool(numbers) and sum(numbers) / len(numbers) >= threshold


@dataclass(slots=True)
class Cascade:
    """One program's way through the stages; `merged` are its numbers so far, the later ones over the earlier."""

    thresholds: tuple[float, ...]
    stages: int
    merged: dict[str, object] = field(default_factory=dict)

    def ends(self, stage: int, metrics: Mapping[str, object]) -> bool:
        """Whether nothing is called after this stage gave these metrics."""
        self.merged |= {
            name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "error"
        }
        if stage >= self.stages or stage > len(self.thresholds):
            return True
        return not passes(self.merged, self.thresholds[stage - 1])
