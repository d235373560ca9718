"""The app's own analysis finds questions, topics, figures and a summary in any transcript."""

import json
import random

import pytest

from pbx.transcription.analysis.run import Analysis, Quote, SpokenSegment, analyse, match_topics
from tests.unit.transcription.dialogues import read_dialogue


def spoken(*texts: str, speaker: str = "caller", flags: tuple[str, ...] = ()) -> list[SpokenSegment]:
    """Segments of two seconds, three seconds apart."""
    return [SpokenSegment(5.0 * i, 5.0 * i + 2, speaker, text, flags) for i, text in enumerate(texts)]


def timed_turns(*turns: tuple[str, float, float]) -> list[SpokenSegment]:
    return [SpokenSegment(start_s, end_s, speaker, "The washing machine leaks") for speaker, start_s, end_s in turns]


def test_a_question_has_a_speaker_and_a_time() -> None:
    segments = [SpokenSegment(10.0, 20.0, "caller", "It is broken. Can you fix it?")]
    (question,) = analyse(segments, None).questions
    assert (question.speaker, question.text) == ("caller", "Can you fix it?")
    assert 14 < question.start_s < 15  # in proportion to the letters


@pytest.mark.parametrize(
    ("text", "is_question"),
    [
        ("so how much is the delivery", True),
        ("okay when will it arrive", True),
        ("could you send me the invoice", True),
        ("what time does the shop open", True),
        ("what a nice surprise", False),
        ("when I called on Monday nobody answered", False),
        ("the shop is open", False),
        ("Right?", False),
        ("How can I help you?", False),
        ("Thank you for holding, what is your address?", True),
        ("wie lange dauert die Lieferung und wann kommt sie", True),
        ("wie gesagt ist das nicht meine Schuld", False),
    ],
)
def test_questions_are_found_without_a_question_mark(text: str, is_question: bool) -> None:
    assert bool(analyse(spoken(text), None).questions) is is_question


def test_figures_of_a_complete_dialogue() -> None:
    analysis = analyse(read_dialogue("boiler"), 95.0)
    assert analysis.talk_s == {"agent": 37.5, "caller": 19.9}
    assert analysis.talk_ratio == pytest.approx(37.5 / 57.4)
    assert analysis.longest_silence == (34.0, 30.0)  # on hold
    assert analysis.interruptions == 2
    assert analysis.first_response_s == 2.5  # the time until the first reply to "Hello?"


def test_overlapping_segments_count_once_per_speaker() -> None:
    analysis = analyse(timed_turns(("agent", 0, 4), ("agent", 2, 6), ("caller", 5, 7)), None)
    assert analysis.talk_s == {"agent": 6, "caller": 2}
    assert analysis.talk_ratio == 0.75


def test_without_speakers_there_are_no_figures_per_speaker() -> None:
    analysis = analyse(timed_turns(("", 0, 4), ("", 10, 12)), None)
    assert analysis.talk_s == {"": 6}
    assert (analysis.talk_ratio, analysis.first_response_s, analysis.interruptions) == (None, None, 0)
    assert analysis.longest_silence == (4, 6)
    assert analyse(timed_turns(("", 0, 4), ("agent", 10, 12)), None).talk_ratio is None  # one speaker is unknown
    assert analyse(timed_turns(("agent", 10, 12)), None).talk_ratio == 1  # a caller who never spoke


@pytest.mark.parametrize(
    ("turns", "count"),
    [
        ([("caller", 0, 4), ("agent", 3, 6)], 1),
        ([("agent", 0, 4), ("caller", 3, 6)], 1),
        ([("caller", 0, 4), ("agent", 3.6, 6)], 0),  # overlaps below half a second are normal at a change of speaker
        ([("caller", 0, 4), ("agent", 4, 6), ("caller", 6, 8)], 0),
        ([("caller", 0, 4), ("agent", 1, 2), ("agent", 2.2, 3)], 1),  # one interruption in two segments
        ([("caller", 0, 9), ("agent", 1, 2), ("agent", 5, 6)], 2),
        ([("caller", 0, 4), ("agent", 0, 4)], 1),  # both start at the same time: one interruption
        ([("", 0, 4), ("", 3, 6)], 0),
    ],
)
def test_interruptions_are_counted(turns: list[tuple[str, float, float]], count: int) -> None:
    assert analyse(timed_turns(*turns), None).interruptions == count


def test_a_listening_signal_is_no_interruption() -> None:
    segments = timed_turns(("caller", 0, 9))
    assert analyse([*segments, SpokenSegment(3, 4, "agent", "Mm-hmm, yes, okay.")], None).interruptions == 0
    assert analyse([*segments, SpokenSegment(3, 4, "agent", "Yes, but wait.")], None).interruptions == 1


@pytest.mark.parametrize(
    ("turns", "wait_s"),
    [
        ([("agent", 0, 3), ("caller", 4, 6), ("agent", 9, 10)], 3),
        ([("caller", 0, 1), ("caller", 2, 3), ("agent", 7, 8)], 4),  # one turn, with a pause
        ([("caller", 0, 1), ("caller", 9, 10), ("agent", 12, 13)], 11),  # repeated: the first one counts
        ([("caller", 0, 3), ("agent", 2, 4)], 0),
        ([("agent", 0, 3), ("caller", 4, 6)], None),
        ([("agent", 0, 3)], None),
    ],
)
def test_first_response_is_the_time_until_the_agent_replies(
    turns: list[tuple[str, float, float]], wait_s: float | None
) -> None:
    assert analyse(timed_turns(*turns), None).first_response_s == wait_s


def test_silence_counts_only_between_the_first_and_the_last_word() -> None:
    music = SpokenSegment(5, 40, "agent", "", ("music",))
    doubtful = SpokenSegment(20, 22, "caller", "you you you", ("repetition",))
    phantom = SpokenSegment(24, 26, "caller", "Thanks for watching!", ("phantom",))
    spoken_parts = timed_turns(("caller", 3, 5), ("agent", 40, 42))
    assert analyse([*spoken_parts, music], 100).longest_silence == (5, 35)  # hold music is silence
    # Doubtful words are still a voice.
    assert analyse([*spoken_parts, doubtful, phantom], 100).longest_silence == (22, 18)
    assert analyse(spoken_parts[:1], 100).longest_silence is None
    assert analyse(timed_turns(("caller", 0, 5), ("agent", 4, 6)), 100).longest_silence is None


def test_flagged_segments_are_ignored() -> None:
    reliable = read_dialogue("invoice")
    flags = ("no_voice", "repetition", "compression", "improbable", "phantom", "music", "ringing")
    doubtful = [
        SpokenSegment(90.0 + i, 91.0 + i, "caller", "Is my zebra refund late?", (f,)) for i, f in enumerate(flags)
    ]
    with_doubtful, without = analyse([*doubtful, *reliable], None), analyse(reliable, None)
    assert (with_doubtful.summary, with_doubtful.key_phrases) == (without.summary, without.key_phrases)
    assert (with_doubtful.questions, with_doubtful.talk_s) == (without.questions, without.talk_s)
    assert match_topics(doubtful, {"Zebras": ["zebra"]}) == {}


@pytest.mark.parametrize("segments", [[], spoken(""), spoken(" \n "), spoken("zebra", flags=("phantom",))])
def test_a_call_without_words_has_an_empty_analysis(segments: list[SpokenSegment]) -> None:
    assert analyse(segments, 12.0) == Analysis()


def test_courtesies_alone_have_no_summary() -> None:
    assert analyse(spoken("Hello?", "Good morning, how can I help you?", "Thank you. Bye."), None).summary == ""


def test_a_sentence_may_span_segments_and_ends_at_a_pause() -> None:
    segments = [
        SpokenSegment(0, 2, "caller", "I was charged twice for"),
        SpokenSegment(2.1, 4, "caller", "the washing machine. The invoice says"),
        SpokenSegment(9, 11, "caller", "Something else entirely about dishwashers."),
    ]
    assert analyse(segments, None).summary == (
        "Caller: I was charged twice for the washing machine. Something else entirely about dishwashers."
    )


def spoken_turns(*lines: str) -> list[SpokenSegment]:
    """Segments of "speaker: words", three seconds apart."""
    parts = (line.split(": ", 1) for line in lines)
    return [SpokenSegment(5.0 * i, 5.0 * i + 2, speaker, text) for i, (speaker, text) in enumerate(parts)]


def test_reason_and_outcome_are_preferred_to_long_sentences() -> None:
    call = spoken_turns(
        "agent: Northwind Windows and Doors of Lower Saxony, the sunny south of Bremen, hello.",
        "caller: Yesterday the grey dog of our neighbours barked at the postman behind the blue church.",
        "caller: I need a refund for the lamp.",
        "agent: Grey lamps are listed on page ninety of the yellow summer catalogue of the Bremen branch.",
        "agent: I'll transfer the money tomorrow.",
        "agent: The summer catalogue has shades of cream, green, mustard, walnut, ebony and pearl besides.",
    )
    assert analyse(call, None).summary == (
        "Caller: I need a refund for the lamp.\nAgent: I'll transfer the money tomorrow."
    )


def test_greeting_is_not_in_the_summary() -> None:
    call = spoken_turns(
        "agent: Good morning, Northwind Windows of Bremen, Alice Miller.", "caller: I need a refund for the lamp."
    )
    assert analyse(call, None).summary == "Caller: I need a refund for the lamp."


def test_repeated_sentence_is_in_the_summary_once() -> None:
    repeated = "The washing machine leaks water under the door."
    other = "A plumber fixed the old copper pipes last winter."
    summary = analyse(
        spoken(repeated, other, repeated, repeated, repeated, repeated, repeated, speaker=""), None
    ).summary
    assert sorted(summary.splitlines()) == [other, repeated]


def test_key_phrases_contain_no_filler_words() -> None:
    segments = spoken("My neighbour can't open the garage door.", "We don't like the garage door.")
    assert analyse(segments, None).key_phrases == ["garage door", "neighbour", "open"]


def test_abbreviations_and_numbers_do_not_end_a_sentence() -> None:
    text = "The technician Mr. Smith will charge 84.50 pounds at 5 p.m. tomorrow for the repair."
    assert analyse(spoken(text, speaker="agent"), None).summary == f"Agent: {text}"


@pytest.mark.parametrize(
    ("phrase", "text", "matches"),
    [
        ("refund", "I want a REFUND!", True),
        ("refund", "It was refunded.", False),
        ("refund*", "It was refunded.", True),
        ("und", "refund", False),
        ("cafe creme", "Un café  crème, bitte", True),
        ("Kündigung", "die kundigung", True),
        ("don't", "I don’t know", True),
        ("credit card", "my credit-card", True),
        ("credit card", "credit the card", False),
        ("cancel* order", "cancelling order", True),
        ("straße", "STRASSE", True),
        ("退款", "我想退款谢谢", True),
        ("解約", "契約を解約したい", True),
        ("ガス", "カス", False),  # the mark distinguishes two kana
        ("환불", "환불을 받고 싶어요", True),
        ("คืนเงิน", "ขอคืนเงินครับ", True),
        ("الثلاجة", "طلبت الثّلاجة أمس", True),
        ("החזר", "אני רוצה הֶחְזֵר", True),
        ("c++", "we speak c++ here", True),
        ("*", "anything", False),
        ("", "anything", False),
    ],
)
def test_phrases_of_topics_match_words(phrase: str, text: str, matches: bool) -> None:
    assert bool(match_topics(spoken(text), {"Topic": [phrase]})) is matches


def test_topics_quote_the_segments_that_mention_them() -> None:
    segments = [
        SpokenSegment(9, 11, "agent", "The invoice is paid; the invoice is closed."),
        SpokenSegment(0, 2, "caller", "I would like my money"),
        SpokenSegment(2.2, 4, "caller", "back, please."),
        SpokenSegment(1, 3, "agent", "Mm-hmm."),
    ]
    topics = {"Refund": ["money back", "refund*"], "Billing": ["invoice", "paid"], "Zebras": ["zebra"], "None": []}
    assert match_topics(segments, topics) == {
        "Refund": [Quote(0, "caller", "I would like my money")],  # spans two segments: the first is quoted
        "Billing": [Quote(9, "agent", "The invoice is paid; the invoice is closed.")],
    }


def test_a_phrase_does_not_continue_after_a_pause() -> None:
    segments = [SpokenSegment(0, 2, "caller", "the money"), SpokenSegment(8, 9, "caller", "back then")]
    assert match_topics(segments, {"Refund": ["money back"]}) == {}


def random_segments(alphabet: str, count: int, pieces: int) -> list[SpokenSegment]:
    generator = random.Random(1)
    texts = ["".join(generator.choices(alphabet, k=count // pieces)) for _ in range(pieces)]
    sentences = [f"{text}." for text in texts] if pieces > 1 else texts
    return [SpokenSegment(i, i + 1, ("caller", "agent")[i % 2], text) for i, text in enumerate(sentences)]


def test_a_hundred_thousand_words_are_analysed_quickly() -> None:
    """The sentence graph is limited: without a limit, 8,000 sentences would take minutes and gigabytes."""
    analysis = analyse(random_segments("abcdefghij" + 2 * " ", 660_000, 8000), None)
    assert 100 < len(analysis.summary) < 1100
    assert len(analysis.key_phrases) == 8


ALPHABETS = [
    "abcdefghij ",
    "אבגדהוזחט ",
    "ابتثجحخدذ ",
    "我你他的是了退款订单",
    "あいうカキク解約",
    "กขคงจฉช ",
    "🙂↔️ \u200f\u200d\u0301\u202e",
]


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("pieces", [1, 500])
def test_texts_in_any_script_are_analysed_in_one_or_many_segments(alphabet: str, pieces: int) -> None:
    segments = random_segments(alphabet, 50_000, pieces)
    analysis = analyse(segments, None)
    assert len(analysis.summary) < 1100
    assert analysis.talk_ratio == (0 if pieces == 1 else 0.5)
    json.dumps(analysis.to_document())
    match_topics(segments, {"Topic": ["abc*", "退款"]})


def test_segments_with_invalid_times_count_no_talk() -> None:
    segments = [
        SpokenSegment(5, 3, "caller", "The washing machine leaks."),
        SpokenSegment(1, 1, "agent", "It will be fixed."),
    ]
    analysis = analyse(segments, 2.0)
    assert analysis.talk_s == {"agent": 0, "caller": 0}
    assert analysis.talk_ratio is None


def test_an_analysis_is_restored_from_its_document() -> None:
    analysis = analyse(read_dialogue("boiler"), 95.0)
    assert Analysis.from_document(json.loads(json.dumps(analysis.to_document()))) == analysis
    assert Analysis.from_document({}) == Analysis()
    assert Analysis.from_document({"summary": "x", "of a later version": 1, "talk_ratio": None}) == Analysis(
        summary="x"
    )
