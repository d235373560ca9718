"""The page Transcripts: empty, with and without matches, invalid searches, trends, topics and exports."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, text
from streamlit.testing.v1 import AppTest

from pbx.model.segment import Segment
from pbx.speech.transcriber import TranscriptPart
from pbx.store.engine import reading, writing
from pbx.store.models import RecordingRow
from pbx.store.notes import save_topic, set_tags, topics
from pbx.store.transcripts import add_part, begin_transcript, finish_transcript, save_analysis
from tests.pages.page_reader import cell_text, open_page, opened_url, page_text, press, without_errors
from tests.pages.sample_data import TEXTS_WITH_MARKUP, add_call, save_pbx

pytestmark = pytest.mark.usefixtures("no_worker")

PAGE = "pages/calls/transcripts.py"
NUMBERS = count()


@pytest.fixture
def pbx(engine: Engine) -> int:
    return save_pbx(engine)


def add_talk(engine: Engine, pbx: int, *sentences: str, days_ago: float = 0, flags: Any = (), **changes: Any) -> int:
    """Add a transcribed call in which caller and agent take turns of five seconds. Returns its ID."""
    number = changes.pop("from_number", "+4930123")
    fields = {"direction": "inbound", "queue": "600", "agent": "Ada", "linkedid": str(next(NUMBERS))} | changes
    call = add_call(engine, pbx, number, datetime.now(UTC) - timedelta(days=days_ago), **fields)
    segments = tuple(
        Segment(5.0 * i, 5.0 * i + 4, i % 2, sentence, flags=flags) for i, sentence in enumerate(sentences)
    )
    with writing(engine) as session:
        recording = session.get_one(RecordingRow, call)  # each call here has one recording, with the same ID
        transcript = begin_transcript(session, recording.id or 0, "whisper", "base", "x")
        add_part(session, transcript.id or 0, TranscriptPart(0, segments, 60.0, 60.0, 2, is_last=True), "inbound")
        finish_transcript(session, transcript.id or 0)
    return call


def open_transcripts(**query: str) -> AppTest:
    return without_errors(open_page(PAGE, **query))


def data_of(app: AppTest, label: str) -> dict[str, Any]:
    found = [json.loads(element.proto.json) for element in app.get("bidi_component")]
    return next((data for data in found if data.get("label") == label), {})


def mentions(app: AppTest) -> list[tuple[str, str, str]]:
    """The mentions found: speaker, time, and the text with the matches in brackets."""
    return [
        (hit["speaker"], hit["at"], "".join(f"[{part}]" if marked else part for part, marked in hit["parts"]))
        for group in data_of(app, "Mentions found").get("groups", [])
        for hit in group["hits"]
    ]


def rows(app: AppTest, label: str) -> list[list[str]]:
    return [[cell_text(cell) for cell in row["cells"]] for row in data_of(app, label).get("rows", [])]


def test_without_a_pbx_links_to_settings() -> None:
    assert "No PBX is connected yet" in page_text(open_transcripts())


def test_without_transcripts_links_to_transcription(engine: Engine, pbx: int) -> None:
    add_call(engine, pbx, "1001", datetime.now(UTC))
    app = open_transcripts()
    assert "No transcripts yet" in page_text(app)
    assert not app.text_input
    assert opened_url(press(app, "Open Transcription")) == "transcription"


def test_without_a_query_shows_examples_and_latest_transcripts(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "Hello.", days_ago=1, from_number="old")
    new = add_talk(engine, pbx, "Hello.", from_number="new")
    with writing(engine) as session:
        save_analysis(session, new, "local", {"summary": "They greeted."})
    add_call(engine, pbx, "silent", datetime.now(UTC))
    app = open_transcripts()
    assert [row[1:] for row in rows(app, "Latest transcripts")] == [
        ["new → 600 | Agent Ada", "–", "They greeted."],
        ["old → 600 | Agent Ada", "–", "No summary yet"],
    ]
    assert "2 of 2 transcribed calls" in page_text(app)
    app = press(app, "`cancel*` words that start with it")
    assert app.text_input(key="q").value == "cancel*"
    assert "No matches" in page_text(app)


def test_mention_has_highlight_context_speaker_and_link(engine: Engine, pbx: int) -> None:
    call = add_talk(engine, pbx, "Hello there.", "How can I help?", "I want a refund, please.", "Of course.")
    app = open_transcripts(q="refund")
    assert "<b>1 mention in 1 call</b>" in page_text(app)
    assert mentions(app) == [("Caller", "0:10", "I want a [refund], please.")]
    (group,) = data_of(app, "Mentions found")["groups"]
    assert (group["who"], group["about"]) == ("+4930123 → 600", "↙ Inbound, Queue 600, Agent Ada")
    (hit,) = group["hits"]
    assert (hit["before"], hit["after"]) == ("How can I help?", "Of course.")
    assert hit["href"] == f"interactions?call={call}&recording={call}&t=10"


@pytest.mark.parametrize("markup", [*TEXTS_WITH_MARKUP, "<mark>refund</mark>", "שלום refund עולם"])
def test_transcripts_are_never_html(engine: Engine, pbx: int, markup: str) -> None:
    add_talk(engine, pbx, markup, f"refund {markup}", markup, agent=markup, from_number=markup)
    app = open_transcripts(q="refund")
    assert any("[refund]" in text for _, _, text in mentions(app))
    assert not re.search(r"(?<!\\)<(script|img|mark)", page_text(app))


@pytest.mark.parametrize(
    ("query", "reason"),
    [("refund AND", "AND needs a word"), ('"refund', "A closing"), ("(refund", "is missing"), ("*", "A *")],
)
def test_invalid_search_is_explained(engine: Engine, pbx: int, query: str, reason: str) -> None:
    add_talk(engine, pbx, "A refund.")
    app = open_transcripts(q=query)
    assert reason.replace("*", "\\*") in page_text(app)
    assert not app.error
    assert mentions(press(app, "`invoice number` both words")) == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 3),
        ({"period": "Today"}, 2),
        ({"speaker": "Agent"}, 1),
        ({"queue": "610"}, 1),
        ({"queue": "No queue"}, 0),
        ({"direction": "Outbound"}, 1),
        ({"agent": "Grace"}, 1),
        ({"number": "0 999"}, 1),
        ({"tag": "vip"}, 1),
        ({"doubtful": "true"}, 4),
        ({"queue": "gone"}, 0),
    ],
)
def test_filters_are_in_the_url(engine: Engine, pbx: int, query: dict[str, str], found: int) -> None:
    tagged = add_talk(engine, pbx, "A refund.", queue="610", agent="Grace")
    add_talk(engine, pbx, "Hello.", "A refund.", direction="outbound")
    add_talk(engine, pbx, "A refund.", days_ago=40, from_number="+4930999")
    add_talk(engine, pbx, "A refund, thanks for watching.", flags=("phantom",))
    with writing(engine) as session:
        set_tags(session, tagged, ["vip"])
    app = open_transcripts(q="refund", **query)
    assert len(mentions(app)) == found
    if not found:
        assert "No matches with these filters" in page_text(app)
        assert len(mentions(press(app, "Search all calls"))) == 3


def test_doubtful_mentions_are_marked(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "Thanks for watching.", flags=("phantom",))
    assert "No matches" in page_text(open_transcripts(q="watching"))
    app = open_transcripts(q="watching", doubtful="true")
    assert data_of(app, "Mentions found")["groups"][0]["hits"][0]["marks"] == ["doubtful"]


def test_mentions_come_in_pages_and_in_the_selected_order(engine: Engine, pbx: int) -> None:
    for number in range(25):
        add_talk(engine, pbx, f"refund number{number}", days_ago=number / 24)
    app = open_transcripts(q="refund", sort="Newest")
    assert "1–20 of 25" in page_text(app)
    assert [text for _, _, text in mentions(app)][:2] == ["[refund] number0", "[refund] number1"]
    assert mentions(open_transcripts(q="refund", sort="Oldest"))[0][2] == "[refund] number24"


def test_mentions_of_one_call_are_under_one_heading(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "refund", "refund", "nothing", "refund")
    app = open_transcripts(q="refund", sort="Newest")
    assert "<b>3 mentions in 1 call</b>" in page_text(app)
    assert [len(group["hits"]) for group in data_of(app, "Mentions found")["groups"]] == [3]


def open_export_menu(monkeypatch: pytest.MonkeyPatch, **state: Any) -> tuple[AppTest, dict[str, Any]]:
    """The search for refund with its export menu open, and the arguments of its download button."""
    button: dict[str, Any] = {}
    monkeypatch.setattr(
        "streamlit.download_button", lambda label, data, **more: button.update(more, label=label, data=data)
    )
    app = open_page(PAGE, q="refund")
    app.session_state["export"] = True
    for name, value in state.items():
        app.session_state[name] = value
    return without_errors(app.run()), button


def test_all_calls_found_can_be_exported(engine: Engine, pbx: int, monkeypatch: pytest.MonkeyPatch) -> None:
    add_talk(engine, pbx, "A refund.", from_number="first")
    add_talk(engine, pbx, "A refund, too.", from_number="second")
    add_talk(engine, pbx, "Nothing.", from_number="third")
    _, button = open_export_menu(monkeypatch)
    assert button["label"] == "Download 2 calls"
    assert re.fullmatch(r"Transcripts refund \d{4}-\d\d-\d\d\.txt", button["file_name"])
    text = button["data"]().decode()
    assert "Caller: A refund.\n" in text
    assert "Caller: A refund, too.\n" in text
    assert "third" not in text


def test_selected_calls_are_exported_in_the_selected_format(
    engine: Engine, pbx: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_talk(engine, pbx, "A refund.")
    second = add_talk(engine, pbx, "A refund, too.")
    app, button = open_export_menu(monkeypatch, calls_to_export={second: None}, export_format="JSON")
    assert (button["label"], button["mime"]) == ("Download 1 call", "application/json")
    assert [call["id"] for call in json.loads(button["data"]())["calls"]] == [second]
    assert [group["selected"] for group in data_of(app, "Mentions found")["groups"]].count(True) == 1
    assert "1 call selected" in page_text(app)
    press(app, "Clear selection")
    assert button["label"] == "Download 2 calls"


def test_export_with_too_much_audio_is_disabled(engine: Engine, pbx: int, monkeypatch: pytest.MonkeyPatch) -> None:
    call = add_talk(engine, pbx, "A refund.")
    with writing(engine) as session:
        session.get_one(RecordingRow, call).size_bytes = 600_000_000
    app, button = open_export_menu(monkeypatch, export_format="ZIP with audio")
    assert button["disabled"]
    assert "600.0 MB of audio; the limit is 500.0 MB" in page_text(app)


def test_trend_counts_mentions_calls_and_share(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "refund", "refund", days_ago=0)
    add_talk(engine, pbx, "nothing", days_ago=0)
    add_talk(engine, pbx, "invoice", days_ago=3, queue="610")
    app = open_transcripts(view="Trends", q="refund")
    assert rows(app, "Phrases compared") == [["refund", "2", "1 of 3", "33.3%"]]
    (chart,) = app.get("plotly_chart")
    bars, unknown, so_far = json.loads(chart.proto.spec)["data"]
    assert [data[2].split("<br>")[0] for data in bars["customdata"]] == [
        "0 mentions, in 0 of 1 call (0%)",
        "2 mentions, in 1 of 2 calls (50%)",
    ]
    assert bars["customdata"][1][2].endswith(so_far["name"])
    assert len(unknown["x"]) == 2
    by_queue = json.loads(open_transcripts(view="Trends", q="refund", by="Queue").get("plotly_chart")[0].proto.spec)[
        "data"
    ]
    assert [data[1] for data in by_queue[0]["customdata"]] == ["610", "600"]


def test_empty_trend_explains_what_to_do(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "refund", days_ago=40)
    assert "Enter what to compare" in page_text(open_transcripts(view="Trends"))
    assert "No transcribed call matches" in page_text(open_transcripts(view="Trends", q="refund", period="Today"))
    assert "AND needs a word" in page_text(open_transcripts(view="Trends", q="refund AND"))


def test_trend_follows_the_search_unless_phrases_are_selected(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "refund", "invoice")
    app = open_transcripts(view="Trends", q="refund")
    app = without_errors(app.text_input(key="q").set_value("invoice").run())
    assert [row[0] for row in rows(app, "Phrases compared")] == ["invoice"]
    app = without_errors(app.multiselect(key="phrases").set_value(["invoice", "refund"]).run())
    app = without_errors(app.text_input(key="q").set_value("nothing").run())
    assert [row[0] for row in rows(app, "Phrases compared")] == ["invoice", "refund"]


def test_topics_are_counted_and_link_to_their_mentions(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "I want my money back.", "A refund, then.")
    add_talk(engine, pbx, "Nothing.")
    with writing(engine) as session:
        save_topic(session, "Refunds *now*", ["refund*", "money back"])
    app = open_transcripts(view="Topics")
    assert "50.0% of 2 transcribed calls" in [bar.proto.text for bar in app.get("progress")]
    app = press(app, "2 mentions in 1 call")
    assert app.text_input(key="q").value == 'refund* OR "money back"'
    assert sorted(text for _, _, text in mentions(app)) == ["A [refund], then.", "I want my [money back]."]


def test_topic_is_added_edited_and_deleted_after_confirmation(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "Nothing.")
    app = press(open_transcripts(view="Topics"), "Add a topic")
    app.text_input(key="topic_name").set_value("Invoices")
    app.text_area(key="topic_phrases").set_value("invoice*\n***")
    assert "Enter at least one word" in page_text(press(app, "Save"))
    app.text_area(key="topic_phrases").set_value("invoice*\n\n bill ")
    app = press(app, "Save")
    with reading(engine) as session:
        assert [(topic.name, topic.phrases) for topic in topics(session)] == [("Invoices", ["invoice*", "bill"])]
    app = press(app, "Edit")
    app.text_input(key="topic_name").set_value("Bills")
    app = press(press(app, "Save"), "Delete")
    with reading(engine) as session:
        assert [topic.name for topic in topics(session)] == ["Bills"]
    without_errors(app.button(key="topic_delete_yes").click().run())
    with reading(engine) as session:
        assert topics(session) == []


def test_empty_topics_page_explains_topics(engine: Engine, pbx: int) -> None:
    add_talk(engine, pbx, "Nothing.")
    assert "No topics yet" in page_text(open_transcripts(view="Topics"))


def test_newer_database_is_reported(engine: Engine, pbx: int) -> None:
    with writing(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "written by a newer version" in page_text(open_transcripts())
