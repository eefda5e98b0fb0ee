"""The data is whole, dated and sourced, and a record that is not is refused by name."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.disclosure.reading import read_regimes
from keyturn.disclosure.regimes import Confidence, Kind, Period, Regimes, Unit

TEXT = resources.files("keyturn.disclosure").joinpath("regimes.json").read_text("utf-8")


def test_every_record_names_source_day_status_and_confidence(regimes: Regimes) -> None:
    assert len(regimes.regimes) >= 30
    for regime in regimes.regimes:
        assert regime.source.startswith("https://"), regime.id
        assert dt.date.fromisoformat(regime.as_of) <= dt.date(2026, 11, 23), regime.id
        assert regime.status.strip(), regime.id
        assert isinstance(regime.confidence, Confidence), regime.id


def test_no_record_claims_to_know_later_than_its_material(regimes: Regimes) -> None:
    assert {regime.as_of for regime in regimes.regimes} == {regimes.as_of} == {"2026-10-12"}


def test_periods_that_no_source_lets_us_compute_are_marked_as_gaps(regimes: Regimes) -> None:
    for regime in regimes.regimes:
        counted = regime.period is not None and regime.period.milliseconds is not None
        assert (regime.calendar == "elapsed") == counted, regime.id
    gaps = {regime.id for regime in regimes.regimes if regime.calendar == "gap"}
    assert {"COP-1.4", "COP-7.7-update", "CA-22757.12(d)", "IL-18", "NY-1428"} <= gaps


def test_art_73_carries_its_deferral(regimes: Regimes) -> None:
    for id in ("EU-AIA-73(2)", "EU-AIA-73(3)", "EU-AIA-73(4)"):
        regime = regimes.get(id)
        assert regime.conditions.deferred_until_at is not None
        assert "2027-12-02" in regime.note
        assert "not amended" in regime.status


def test_every_kind_that_a_tripwire_opens_is_listed(regimes: Regimes) -> None:
    assert {"decoy-opened", "processes-left", "limit-reached", "escape-attempt", "halt-unproven"} <= set(regimes.kinds)


def test_an_unknown_regime_is_malformed_input(regimes: Regimes) -> None:
    with pytest.raises(MalformedInput, match="there is no regime `GDPR`"):
        regimes.get("GDPR")


@pytest.mark.parametrize(
    ("period", "words", "milliseconds"),
    [
        (Period(72, Unit.HOURS), "72 hours", 259_200_000),
        (Period(15, Unit.DAYS), "15 days", 1_296_000_000),
        (Period(2, Unit.WEEKS), "2 weeks", 1_209_600_000),
        (Period(1, Unit.YEARS), "1 year", None),
        (Period(3, Unit.MONTHS), "3 months", None),
        (Period(5, Unit.BUSINESS_DAYS), "5 business days", None),
    ],
)
def test_a_period_says_its_length_or_that_it_has_none(period: Period, words: str, milliseconds: int | None) -> None:
    assert (str(period), period.milliseconds) == (words, milliseconds)


def every_field() -> list[tuple[str, ...]]:
    """The path of every field of one record."""
    row = json.loads(TEXT)["regimes"][0]
    nested = [(name, inner) for name in ("conditions", "trigger", "period") for inner in row[name]]
    return [(name,) for name in row] + nested


def changed(path: tuple[str, ...], change: Callable[[dict[str, Any], str], None]) -> str:
    """The data with one field of its first record changed."""
    data = json.loads(TEXT)
    row = data["regimes"][0]
    for name in path[:-1]:
        row = row[name]
    change(row, path[-1])
    return json.dumps(data)


@pytest.mark.parametrize("path", every_field(), ids=".".join)
def test_attack_a_record_without_one_of_its_fields_is_refused_by_name(path: tuple[str, ...]) -> None:
    with pytest.raises(MalformedInput) as caught:
        read_regimes(changed(path, lambda row, name: row.pop(name)))
    assert f"`{path[-1]}`" in caught.value.message
    assert "regimes.regimes" in caught.value.message or "EU-AIA-73(2)" in caught.value.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("id",), ""),
        (("source",), "http://example.org"),
        (("source",), ""),
        (("as_of",), "12 October 2026"),
        (("as_of",), "2026-13-01"),
        (("as_of",), None),
        (("confidence",), "certain"),
        (("status",), " "),
        (("force",), "custom"),
        (("kind",), "sue"),
        (("kind",), "at once"),
        (("calendar",), "gap"),
        (("calendar",), "working days"),
        (("period",), None),
        (("period", "value"), 0),
        (("period", "value"), -2),
        (("period", "value"), 2.5),
        (("period", "value"), True),
        (("period", "unit"), "moons"),
        (("period", "unit"), "months"),
        (("roles",), []),
        (("roles",), "provider"),
        (("scope",), "standing"),
        (("trigger", "moments"), []),
        (("trigger", "moments"), ["detected_at"]),
        (("trigger", "moments"), ["noticed_at"]),
        (("trigger", "ends_with"), "noticed_at"),
        (("trigger", "choose"), "any"),
        (("trigger", "from_detection"), 1),
        (("conditions", "training_flop_above"), "1e26"),
        (("conditions", "training_flop_above"), True),
        (("conditions", "training_flop_above"), -1),
        (("conditions", "effective_from"), "soon"),
        (("conditions", "needs"), ["luck"]),
        (("conditions", "incident_kinds"), ["theft"]),
        (("conditions", "incident_kinds"), ["decoy-opened"]),
    ],
)
def test_attack_a_value_outside_its_list_is_refused(path: tuple[str, ...], value: object) -> None:
    def put(row: dict[str, Any], name: str) -> None:
        row[name] = value

    with pytest.raises(MalformedInput):
        read_regimes(changed(path, put))


def test_attack_an_unknown_field_is_refused(regimes: Regimes) -> None:
    with pytest.raises(MalformedInput, match="`EU-AIA-73\\(2\\)` has an unknown field `waived`"):
        read_regimes(changed(("waived",), lambda row, name: row.update({name: True})))


def test_attack_two_records_of_one_id_are_refused() -> None:
    data = json.loads(TEXT)
    data["regimes"].append(data["regimes"][0])
    with pytest.raises(MalformedInput, match="an id occurs twice"):
        read_regimes(json.dumps(data))


def test_attack_one_field_twice_is_refused() -> None:
    with pytest.raises(MalformedInput, match="not one JSON object"):
        read_regimes(TEXT.replace('"as_of": "2026-10-12",', '"as_of": "2026-10-12", "as_of": "2026-10-12",', 1))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000, '{"schema": 2}'])
def test_attack_what_is_not_the_data_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput):
        read_regimes(text)


def test_every_counted_kind_has_a_period_and_no_other_has_one(regimes: Regimes) -> None:
    counted = {Kind.REPORT_BY, Kind.REPEAT_EVERY, Kind.FINISH_BEFORE}
    assert all((regime.period is not None) == (regime.kind in counted) for regime in regimes.regimes)
