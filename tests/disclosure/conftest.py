"""The data that ships, two profiles at the ends of the scale, and moments by name."""

from __future__ import annotations

import datetime as dt

import pytest

from keyturn.core.terms import Instant
from keyturn.disclosure.clocks import Profile
from keyturn.disclosure.reading import load_regimes
from keyturn.disclosure.regimes import Regimes

HOUR = 3_600_000
DAY = 24 * HOUR

CONNECT4 = Profile("developer", ("EU", "US-CA"), training_flop=1e12, revenue_usd=0)
EVERYWHERE = ("EU", "US-CA", "US-NY", "US-IL", "US-CT")
FRONTIER = Profile("developer", EVERYWHERE, training_flop=3e26, revenue_usd=2e9)


def moment(text: str) -> Instant:
    """Read `2027-01-01` or `2027-01-01T10:00:00` as UTC."""
    at = dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
    return Instant(round(at.timestamp() * 1000))


@pytest.fixture(scope="session")
def regimes() -> Regimes:
    """The regimes that ship with Keyturn."""
    return load_regimes()
