"""The guard flags texts that Whisper invents and doesn't flag what people say."""

import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.model.segment import Flag
from pbx.speech.hallucination_guard import hallucination_flags


def flags(
    text: str,
    *,
    voiced_share: float = 0.9,
    compression_ratio: float | None = None,
    avg_logprob: float = -0.3,
    no_speech_prob: float = 0.05,
    duration_s: float | None = None,
) -> tuple[Flag, ...]:
    """The flags of a text that was spoken clearly at a normal pace, except for the given arguments."""
    raw = text.encode()
    return hallucination_flags(
        text,
        voiced_share=voiced_share,
        compression_ratio=len(raw) / len(zlib.compress(raw)) if compression_ratio is None else compression_ratio,
        avg_logprob=avg_logprob,
        no_speech_prob=no_speech_prob,
        duration_s=max(0.6, len(raw) / 15) if duration_s is None else duration_s,
    )


SPOKEN = [
    "Thank you for calling support. This is Alice, how can I help you?",
    "No no no.",
    "No, no, no, no, no, that is not what I ordered.",
    "Yeah yeah yeah yeah yeah.",
    "My account number is zero zero zero one.",
    "Zero zero zero zero zero zero zero.",
    "0 0 0 0 0 0 0 0 0 1",
    "4444 4444 4444 4444",
    "My name is Anna: A, double N, A. A N N A, A N N A.",
    "B O B B Y",
    "Can you hear me? Can you hear me? Can you hear me?",
    "Hello? Hello? Hello? Hello?",
    "I’m sorry, I’m sorry, I’m sorry.",
    "Thank you.",
    "Thank you very much, bye bye.",
    "You.",
    "Okay.",
    "I was watching the news, thank you for asking, and then the line went dead.",
    "Der Untertitel fehlt in meinem Film.",
    "はい、はい、はい、はい。",
    "お電話ありがとうございます。営業部のアリスでございます。",
    "ありがとうございました。",
    "谢谢谢谢。",
    "谢谢您的来电,请问有什么可以帮您?",
    "شكرا جزيلا لاتصالك بنا، كيف يمكنني مساعدتك؟",
    "لا لا لا",
    "תודה רבה, להתראות.",
    "네, 네, 네, 알겠습니다.",
    "สวัสดีค่ะ ติดต่อเรื่องอะไรคะ",
]


@pytest.mark.parametrize("text", SPOKEN)
def test_spoken_texts_are_not_flagged(text: str) -> None:
    assert flags(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "I don’t know. " * 12,
        "the " * 40,
        "thank you for calling support and have a nice day " * 4,
        "I’m sorry, but I think that it is so " + "that it is so " * 10,
        "Ha" * 30,
        "a" * 50,
        "はい" * 12,
        "ありがとうございます。" * 5,
        "谢谢" * 10,
        "我不知道" * 6,
        "شكرا لك على الاتصال " * 6,
        "לא יודע מה " * 8,
        "ไม่ใช่" * 12,
        "감사합니다 " * 9,
    ],
)
def test_repetitions_are_flagged_in_every_script(text: str) -> None:
    assert "repetition" in flags(text, compression_ratio=1.0)


def test_more_words_than_anyone_can_speak_in_the_time_count_as_repetition() -> None:
    text = "I would like to ask about the invoice of last month, which was sent twice."
    assert flags(text, duration_s=4.0) == ()
    assert flags(text, duration_s=1.0) == ("repetition",)
    assert flags("我想问一下上个月的发票为什么寄了两次给我", duration_s=0.8) == ("repetition",)
    assert flags("Thank you.", duration_s=0.1) == ()  # too short for its duration to be reliable


def test_the_thresholds_equal_those_of_openai_whisper() -> None:
    assert flags("An order.", compression_ratio=2.4) == ()
    assert flags("An order.", compression_ratio=2.41) == ("compression",)
    assert flags("An order.", avg_logprob=-1.0) == ()
    assert flags("An order.", avg_logprob=-1.01) == ("improbable",)
    assert flags("An order.", no_speech_prob=0.99) == ()
    assert flags("An order.", no_speech_prob=0.61, avg_logprob=-1.01) == ("no_voice", "improbable")


def test_a_probability_that_is_not_a_number_is_improbable() -> None:
    assert flags("An order.", avg_logprob=math.nan) == ("improbable",)


def test_a_text_without_voice_is_flagged() -> None:
    assert flags("I want to cancel my order.", voiced_share=0.0) == ("no_voice",)
    assert flags("I want to cancel my order.", voiced_share=0.1, duration_s=3.0) == ("no_voice",)
    # Whisper's times often include much silence around a short word.
    assert flags("Yes.", voiced_share=0.1, duration_s=5.0) == ()
    assert flags("I want to cancel my order.", voiced_share=0.2, duration_s=10.0) == ()


INVENTED = [
    "Thank you for watching!",
    "Thanks for watching. Please subscribe to my channel.",
    "Subtitles by the Amara.org community",
    "Untertitel der Amara.org-Community",
    "Untertitel im Auftrag des ZDF, 2020",
    "Untertitelung des ZDF, 2020",
    "Sous-titres réalisés par la communauté d'Amara.org",
    "Sous-titrage Société Radio-Canada",
    "Merci d’avoir regardé cette vidéo !",
    "Subtítulos realizados por la comunidad de Amara.org",
    "Legendas pela comunidade Amara.org",
    "Sottotitoli creati dalla comunità Amara.org",
    "Ondertitels ingediend door de Amara.org gemeenschap",
    "Napisy stworzone przez społeczność Amara.org",
    "Altyazı M.K.",
    "Продолжение следует...",
    "Редактор субтитров А.Семкин Корректор А.Егорова",
    "Субтитры сделал DimaTorzok",
    "ご視聴ありがとうございました",
    "字幕by索兰娅",
    "字幕由Amara.org社区提供",
    "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
    "시청해주셔서 감사합니다.",
    "اشتركوا في القناة",
    "ترجمة نانسي قنقر",
    "תודה שצפיתם!",
    "Cảm ơn các bạn đã theo dõi.",
    "♪♪♪",
    "...",
    "[Music]",
    "(upbeat music)",
    "[BLANK_AUDIO]",
]


@pytest.mark.parametrize("text", INVENTED)
def test_phantom_phrases_are_flagged_even_with_voice_and_confidence(text: str) -> None:
    assert "phantom" in flags(text)


@pytest.mark.parametrize(
    "text", ["Thank you.", "You", "Bye.", "Vielen Dank.", "Спасибо.", "ありがとうございました。", "谢谢。"]
)
def test_common_words_are_phantoms_only_with_other_signs_of_doubt(text: str) -> None:
    assert flags(text) == ()
    assert "phantom" in flags(text, voiced_share=0.0)
    assert "phantom" in flags(text, voiced_share=0.2)
    assert "phantom" in flags(text, no_speech_prob=0.9)
    assert "phantom" in flags(text, avg_logprob=-0.95)


def test_a_phantom_phrase_among_other_words_counts_only_with_other_signs_of_doubt() -> None:
    text = "And so we go on. Thank you for watching this."
    assert flags(text) == ()
    assert flags(text, no_speech_prob=0.9) == ("phantom",)


def test_an_empty_text_has_no_flags() -> None:
    assert flags("", voiced_share=0.0, avg_logprob=-5) == ()
    assert flags(" \n", voiced_share=0.0, avg_logprob=-5) == ()


def test_a_segment_can_have_every_flag() -> None:
    found = flags("Thank you for watching! " * 20, voiced_share=0.0, avg_logprob=-2.0)
    assert found == ("no_voice", "repetition", "compression", "improbable", "phantom")


@given(st.text(max_size=300), st.floats(), st.floats(), st.floats())
def test_any_text_and_any_numbers_are_accepted(text: str, share: float, logprob: float, duration_s: float) -> None:
    found = flags(text, voiced_share=share, avg_logprob=logprob, duration_s=duration_s, compression_ratio=1.0)
    assert len(set(found)) == len(found)
