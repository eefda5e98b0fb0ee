"""What attacks on permits and approvals start from: one honest release, as the tests of `verify` have it."""

from __future__ import annotations

from tests.verify.conftest import scene, weights

__all__ = ["scene", "weights"]
