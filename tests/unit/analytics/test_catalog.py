"""The catalog's measures are the figures of the pages, and every dimension and measure can be asked of its view."""

import random
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, cast, get_args

import duckdb
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from pbx.analytics.calls import CallQuestion, call_counts
from pbx.analytics.catalog import CATALOG, CatalogEntry, CatalogName, catalog_text
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.question import ROWS, PeriodName, Question, QuestionFilter, question_from_json
from pbx.analytics.question_sql import BIN, BIN_END, question_sql
from pbx.analytics.queues import FigureFilter, figures_by, queue_targets
from pbx.analytics.trunks import by_trunk
from pbx.analytics.views import ViewSource, create_views
from pbx.model.snapshot import Queue, Snapshot
from pbx.store.engine import reading, writing
from pbx.store.models import PbxConnection
from pbx.store.snapshots import store_latest
from tests.paths import ROOT
from tests.unit.store.history_rows import call, leg, ring, store, visit

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
END = MONDAY + timedelta(days=3)
KNOWN_WAIT = QuestionFilter(field="wait_s", at_least=0)


@pytest.fixture(autouse=True)
def history(engine: Engine) -> None:
    """300 random calls with their visits, rings and legs; the queue 600 has a target of its own."""
    chance = random.Random(11)
    store(engine, PbxConnection(id=1, host="pbx", timezone="Europe/Berlin", active=True, saved=True))
    with writing(engine) as session:
        queues = (Queue(name="600", service_level_s=10), Queue(name="601", service_level_s=0))
        store_latest(session, 1, Snapshot(taken_at=END, queues=queues))
    rows: list[Any] = []
    for number in range(1, 301):
        at = MONDAY + timedelta(seconds=chance.randrange(3 * 86_400))
        disposition = chance.choice(["ANSWERED", "NO ANSWER", "BUSY", "FAILED", ""])
        talk_s = float(chance.randrange(600)) if disposition == "ANSWERED" and chance.random() < 0.9 else None
        wait_s = chance.choice([None, float(chance.randrange(60))])
        ids = {"linkedid": f"{number}.0", "direction": chance.choice(["inbound", "outbound", "internal"])}
        rows.append(call(number, at, disposition=disposition, talk_s=talk_s, wait_s=wait_s, agent="1001", **ids))
        trunk = {"trunk": chance.choice(["carrier", "backup"]), "disposition": disposition, "pdd_s": wait_s}
        billed = {"billsec_s": talk_s, "duration_s": chance.choice([None, 90.0])}
        rows.append(leg(number, at, f"PJSIP/1001-{number}", f"PJSIP/{trunk['trunk']}-{number}", **trunk, **billed))
        outcome = chance.choice(["answered", "abandoned", "timeout", "transferred", "in_progress"])
        who = {"agent": chance.choice(["Anna", "Ben"]) if outcome in ("answered", "transferred") else ""}
        where = {"queue": chance.choice(["600", "601"]), "uniqueid": f"{number}.0", "caller": f"030{number % 40:07}"}
        talked = {"talk_s": talk_s if who["agent"] else None}
        rows.append(visit(at, outcome, chance.choice([None, float(chance.randrange(40))]), **who, **where, **talked))
        rows.append(ring(at + timedelta(seconds=number), chance.choice(["Anna", "Ben"]), where["queue"]))
    store(engine, *rows)


def ask(session: Session, question: Question, until: datetime = END, since: datetime = MONDAY) -> list[dict[str, Any]]:
    connection = duckdb.connect(":memory:")
    create_views(connection, ViewSource(session, lambda rows, phrases: []), [question.dataset])
    session.info.pop("figures", None)
    session.info.pop("tables", None)
    found = connection.sql(question_sql(question, "pbx", since, until))
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def same(row: dict[str, Any], measure: str, expected: object) -> None:
    """Check a figure; for a ratio, its denominator too."""
    if isinstance(expected, Ratio):
        assert row[f"{measure}_of"] == expected.denominator, measure
        expected = expected.value
    assert row[measure] == (expected if expected is None else pytest.approx(expected)), measure


def test_measures_of_queue_calls_are_the_figures_of_the_pages(engine: Engine) -> None:
    measures = ("offered", "answered", "abandoned", "short_abandons", "answer_rate", "abandon_rate", "sl_answered")
    measures += ("sl_inclusive", "sl_offered", "asa", "att", "max_wait")
    with reading(engine) as session:
        targets = queue_targets(session, 1)
        figures = figures_by(session, FigureFilter(1, MONDAY, END), "queue", targets)
        rows = ask(session, Question(dataset="queue_visits", measures=measures, rows="queue"))
    assert targets.by_queue == {"600": 10.0}
    assert [row["queue"] for row in rows] == list(figures)
    for row in rows:
        for measure in measures:
            field = {"max_wait": "max_wait_s"}.get(measure, measure)
            same(row, measure, getattr(figures[row["queue"]], field))


def test_measures_of_calls_are_the_figures_of_the_pages(engine: Engine) -> None:
    names = {"calls": "calls", "answered": "answered", "answer_rate": "answer_rate"}
    names |= {"average_talk": "acd", "average_wait": "mean_wait", "talk": "talk_s"}
    wanted = CallQuestion(1, MONDAY, END)
    with reading(engine) as session:
        figures = {one.label: one for one in call_counts(session, wanted, UTC, "direction")}
        rows = ask(session, Question(dataset="calls", measures=tuple(names), rows="direction"))
    assert {row["direction"] for row in rows} == {*figures}
    for row in rows:
        for measure, field in names.items():
            same(row, measure, getattr(figures[row["direction"]], field))


def test_measures_of_trunk_calls_are_the_figures_of_the_pages(engine: Engine) -> None:
    measures = ("seizures", "answered", "asr", "acd", "pdd")
    with reading(engine) as session:
        figures = by_trunk(session, 1, MONDAY, END)
        rows = ask(session, Question(dataset="trunk_calls", measures=measures, rows="trunk"))
    assert {row["trunk"] for row in rows} == {*figures}
    for row in rows:
        for measure in measures:
            same(row, measure, getattr(figures[row["trunk"]], measure))


@pytest.mark.parametrize("name", get_args(CatalogName))
def test_every_dimension_and_measure_gives_an_answer_that_adds_up(engine: Engine, name: CatalogName) -> None:
    entry = CATALOG[name]
    first, measures = next(iter(entry.measures)), tuple(entry.measures)
    groups = [measures[start : start + 12] for start in range(0, len(measures), 12)]
    with reading(engine) as session:
        (total,) = ask(session, Question(dataset=name, measures=(first,)))
        for dimension, group in product(entry.dimensions, groups):
            chosen = tuple(dict.fromkeys((first, *group)))[:12]
            rows = ask(session, Question(dataset=name, measures=chosen, rows=dimension))
            assert sum(row[first] for row in rows) == total[first] > 0
            assert all(entry.dimensions[dimension].text(row[dimension]) for row in rows)


def test_filters_select_rows_and_their_complement(engine: Engine) -> None:
    def count(*filters: QuestionFilter) -> int:
        with reading(engine) as session:
            (row,) = ask(session, Question(dataset="queue_visits", measures=("offered",), filters=filters))
        return cast(int, row["offered"])

    everything = count()
    for chosen in (
        QuestionFilter(field="queue", values=("600",)),
        QuestionFilter(field="agent", values=("", "Anna")),
        QuestionFilter(field="weekday", values=(1, 2)),
        QuestionFilter(field="wait_s", at_least=10, at_most=20),
        QuestionFilter(field="hung_up_by", values=("caller",)),
    ):
        inside, outside = count(chosen), count(chosen.model_copy(update={"exclude": True}))
        assert 0 < inside < everything, chosen
        assert inside + outside == everything, chosen  # a row whose value is unknown is outside


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_a_name_means_one_thing_in_a_dataset(entry: CatalogEntry) -> None:
    assert not entry.dimensions.keys() & entry.measures.keys()


def test_the_page_about_questions_describes_the_catalog_as_it_is() -> None:
    page = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    assert page.partition("## Datasets\n\n")[2] == catalog_text() + "\n"
    example = page.partition("```json\n")[2].partition("```")[0]
    assert question_from_json(example).measures == ("offered", "sl_answered", "att")
    fields = set(Question.model_fields) - {"version"}
    box = Question(dataset="calls", chart="box", number="talk_s")
    assert all(f"`{name}`" in page for name in (*fields, *box.figures, ROWS, BIN, BIN_END))
    assert all(f"`{name}`" in page for name in get_args(PeriodName))


def test_a_histogram_has_every_value_once_in_bins_of_a_round_width(engine: Engine) -> None:
    with reading(engine) as session:
        rows = ask(session, Question(dataset="queue_visits", chart="histogram", number="wait_s", rows="queue"))
        (total,) = ask(session, Question(dataset="queue_visits", measures=("offered",), filters=(KNOWN_WAIT,)))
        second = QuestionFilter(field="wait_s", at_least=7, below=8)
        (seven,) = ask(session, Question(dataset="queue_visits", measures=("offered",), filters=(second,)))
    assert sum(row["n"] for row in rows) == total["offered"] > 100
    assert {row["bin_to"] - row["bin_from"] for row in rows if row["bin_to"] is not None} == {2}  # 39 s ÷ 39 bins
    six_to_eight = sum(row["n"] for row in rows if row["bin_from"] == 6)
    assert 0 < seven["offered"] <= six_to_eight


def test_a_box_plot_has_the_quartiles_of_a_number(engine: Engine) -> None:
    waits = [1.0, 2.0, 3.0, 4.0, 11.0]
    at = MONDAY + timedelta(days=20)
    store(engine, *(visit(at, "answered", wait_s, agent="Anna", queue="700", uniqueid=f"{wait_s}") for wait_s in waits))
    question = Question(dataset="queue_visits", chart="box", number="wait_s", rows="queue")
    with reading(engine) as session:
        (row,) = ask(session, question, at + timedelta(days=1), at)
    # The 5th percentile lies 0.2 of the way from the first value to the second, as numpy's default method has it.
    assert row == {
        "queue": "700", "lowest": 1, "p5": pytest.approx(1.2), "lower_quartile": 2, "median": 3, "upper_quartile": 4,
        "p95": pytest.approx(9.6), "highest": 11, "n": 5,
    }  # fmt: skip


def test_notations_of_one_telephone_number_are_one_number(engine: Engine) -> None:
    at = MONDAY + timedelta(days=20)
    inbound = {"direction": "inbound", "from_number": "+49 30 1234567", "linkedid": "900.0"}
    outbound = {"direction": "outbound", "to_number": "00301234567", "linkedid": "901.0"}
    internal = {"direction": "internal", "from_number": "1001", "to_number": "1002", "linkedid": "902.0"}
    store(engine, call(900, at, **inbound), call(901, at + timedelta(hours=1), **outbound), call(902, at, **internal))
    question = Question(dataset="calls", measures=("calls", "inbound", "outbound", "internal"), rows="external")
    only = question.model_copy(update={"filters": (QuestionFilter(field="external", values=("0301234567",)),)})
    with reading(engine) as session:
        number, none = ask(session, question, at + timedelta(days=1), at)
        (filtered,) = ask(session, only, at + timedelta(days=1), at)
    assert number == {"external": "+49 30 1234567", "calls": 2, "inbound": 1, "outbound": 1, "internal": 0, "n": 2}
    assert none == {"external": "", "calls": 1, "inbound": 0, "outbound": 0, "internal": 1, "n": 1}
    assert filtered == number


def test_a_histogram_of_a_telephone_number_shows_the_number(engine: Engine) -> None:
    at = MONDAY + timedelta(days=20)
    store(engine, visit(at, caller="+49 30 1234567", uniqueid="1"), visit(at, caller="0301234567", uniqueid="2"))
    question = Question(dataset="queue_visits", chart="histogram", number="wait_s", rows="caller")
    with reading(engine) as session:
        rows = ask(session, question, at + timedelta(days=1), at)
    assert [(row["bin_from"], row["bin_to"], row["n"]) for row in rows] == [(10, 11, 2)]
    assert rows[0]["caller"] in ("+49 30 1234567", "0301234567")  # they were called in the same second


def test_a_filter_of_a_number_or_a_day_selects_its_rows(engine: Engine) -> None:
    at = MONDAY + timedelta(days=20, hours=11)
    store(engine, visit(at, wait_s=5.0, uniqueid="1"), visit(at + timedelta(days=1), wait_s=1234567.5, uniqueid="2"))

    def offered(**chosen: Any) -> int:
        question = Question(dataset="queue_visits", measures=("offered",), filters=(QuestionFilter(**chosen),))
        with reading(engine) as session:
            (row,) = ask(session, question, at + timedelta(days=2), at)
        return int(row["offered"])

    assert offered(field="wait_s", values=(5,)) == 1
    assert offered(field="wait_s", at_least=1234567.5) == 1
    assert offered(field="wait_s", at_least=1234567.6) == 0
    assert offered(field="day", values=("2026-03-22",)) == 1  # 11:00 UTC is on the same day in Berlin
    assert offered(field="hour", values=("20260322T1200",)) == 1
    assert offered(field="hour", values=("2026-03-22T11:00",)) == 0
