"""Realistic calls get the expected summaries, questions and key phrases."""

import pytest

from pbx.transcription.analysis.run import analyse
from tests.unit.transcription.dialogues import read_dialogue

# Texts that each summary must contain, in order, and words that no summary may contain.
SUMMARIES = {
    "invoice": ["Caller: I'm calling because I was charged twice on my March invoice.", "two payments of 84 pounds 50"],
    "boiler": [
        "Caller: My boiler has stopped working",
        "Agent: ",
        "the engineer will be with you tomorrow before noon.",
    ],
    "internet": [
        "Caller: My broadband keeps dropping every evening",
        "an engineer will fix the fault",
        "by Friday evening",
    ],
    "unpunctuated": ["I want to change the booking for my family room", "i have changed the booking to the fourth"],
    "reception": ["Caller: I need help with my invoice.", "Agent: I will transfer you to Bob in billing."],
    "hotel": [
        "Caller: We've just come back and the air conditioning",
        "Agent: If he can't fix it tonight I'm going to move",
    ],
    "sales": ["Caller: That's more than the quote", "Agent: I can match any written quote"],
    "arzt": ["Ich bräuchte dringend einen Termin", "Agent: Also heute um elf Uhr dreißig"],
    "kuendigung": ["Caller: Ich möchte meinen Stromvertrag kündigen", "Sie erhalten die Kündigungsbestätigung"],
    "commande": [
        "Caller: J'appelle parce que je n'ai toujours pas reçu ma commande",
        "vous recevrez les lampes jeudi matin",
    ],
    "reparacion": ["Caller: Llamo porque la lavadora", "Agent: Le envío al técnico el jueves"],
    "dingdan": ["Caller: 我想退货", "Agent: 我已经为您申请退款"],
    "kaiyaku": ["Caller: 光回線の契約を解約したいのですが。", "Agent: 解約手数料は五千円"],
    "taslim": ["أتصل بخصوص الثلاجة", "وسوف نسلم الثلاجة غدا قبل الظهر"],
}
COURTESIES = (
    "thank", "good morning", "good afternoon", "help you", "moment", "bye", "the wait", "hold", "weather", "lovely",
    "guten tag", "moment", "wiederhören", "merci", "quittez", "bonne", "gracias", "buenos",
    "您好", "稍等", "再见", "もしもし",
    "お待ち", "ありがとう", "شكرا", "لحظة",
)  # fmt: skip


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_contains_the_reason_and_the_outcome_of_a_call(name: str) -> None:
    summary = analyse(read_dialogue(name), None).summary
    missing = [text for text in SUMMARIES[name] if text.casefold() not in summary.casefold()]
    assert missing == [], summary
    assert [word for word in COURTESIES if word in summary.casefold()] == []
    positions = [summary.casefold().index(text.casefold()) for text in SUMMARIES[name]]
    assert positions == sorted(positions)  # in order of time


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_has_two_to_four_sentences_of_the_transcript(name: str) -> None:
    segments = read_dialogue(name)
    lines = analyse(segments, None).summary.splitlines()
    transcript = " ".join(segment.text for segment in segments).casefold()
    count = 0
    for line in lines:
        label, colon, text = line.partition(": ")
        assert (label in ("Caller", "Agent") and colon) or name == "unpunctuated"
        sentences = [
            part.strip(" .。") for part in (text or line).replace("。", ". ").split(". ") if part.strip(" .。")
        ]
        assert all(sentence.casefold() in transcript for sentence in sentences)
        count += len(sentences)
    assert 2 <= count <= 4


QUESTIONS = {
    "invoice": ["Could I have your customer number, please?", "So when will I get the second payment back?",
                "Will you send me something in writing?"],
    "boiler": ["Have you checked that the gas valve is open?", "Can't anybody come any sooner?"],
    "unpunctuated": ["what is the reference of your booking", "is the family room free until the eleventh",
                     "does that cost anything"],
    "kuendigung": ["Wie lautet denn Ihre Vertragsnummer?", "Brauchen Sie dafür eine Meldebescheinigung?"],
    "commande": ["Quel est votre numéro de commande, s'il vous plaît ?", "Et quand est-ce que je vais le recevoir ?"],
    "reparacion": ["¿Tiene usted la factura a mano?", "¿Cuándo puede venir el técnico?"],
    "dingdan": ["非常抱歉，请问您的订单号是多少？", "那电饭煲需要寄回去吗？"],
    "kaiyaku": ["お客様番号を教えていただけますか。", "モデムは返却しなければなりませんか。"],
    "taslim": ["ما هو رقم الطلب من فضلك؟", "هل يمكن للسائق أن يتصل بي قبل الوصول؟"],
    "reception": [],
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_are_found_without_courtesies(name: str) -> None:
    assert [question.text for question in analyse(read_dialogue(name), None).questions] == QUESTIONS[name]


KEY_PHRASES = {
    "invoice": {"payments", "March invoice", "direct debit"},
    "boiler": {"boiler", "gas valve", "engineer", "error code F28"},
    "internet": {"router", "fault", "cabinet"},
    "unpunctuated": {"family room", "booking"},
    "hotel": {"air conditioning", "extra cost"},
    "sales": {"solar panels", "quote"},
    "kuendigung": {"Stromvertrag kündigen", "Meldebescheinigung"},
    "commande": {"commande", "erreur d'adresse"},
    "reparacion": {"lavadora", "factura", "técnico"},
    "dingdan": {"订单号"},
    "kaiyaku": {"契約", "解約"},
}
EMPTY_WORDS = {"thank", "hello", "okay", "help", "moment", "danke", "guten", "gracias"}


@pytest.mark.parametrize("name", KEY_PHRASES)
def test_key_phrases_name_the_subjects_of_a_call(name: str) -> None:
    key_phrases = analyse(read_dialogue(name), None).key_phrases
    assert KEY_PHRASES[name] - set(key_phrases) == set(), key_phrases
    assert len(key_phrases) <= 8
    assert not {phrase.casefold() for phrase in key_phrases} & EMPTY_WORDS
