"""The hallucination guard: what of a transcript can't have been said, or is likely not to have been.

Whisper was trained on subtitles. Where nobody speaks it writes what subtitles say there, credits and thanks for
watching, or falls into a loop. Nothing is dropped for that: a doubtful segment is flagged, and the reader decides.
"""

import math
import re
import unicodedata
from collections.abc import Sequence

from pbx.speech.decoding import MAX_COMPRESSION_RATIO, MAX_NO_SPEECH_PROB, MIN_AVG_LOGPROB
from pbx.speech.segment import Flag

# The project's own; speech at its fastest has about 25 letters a second (300 words a minute).
MAX_LETTERS_PER_S = 45.0
_RATE_LETTERS = 24  # shorter texts have times too coarse to count by
_MIN_VOICED_SHARE = 0.05  # less than this: nobody spoke, however long the segment
_LITTLE_VOICED_SHARE = 0.3
_DOUBTFUL_LOGPROB = -0.8
# (letters in the repeated block, how often in a row is too often): digits and spelled names repeat single characters,
# people say "no no no no" and ask "Can you hear me?" three times over.
_LOOPS = ((1, 16), (6, 8), (20, 5), (math.inf, 4))
_MAX_PERIOD = 40  # tokens; Whisper writes at most 224 to a window

# Written one character a word, or without spaces between words: a character carries about as much as three letters.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_WEIGHT = 3
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？؟।\n]+")  # not the dots in "Amara.org"
_SOUND_NAMED = re.compile(
    r"\s*(\[[^\[\]]*\]|\([^()]*\)|\*[^*]*\*|【[^【】]*】|（[^（）]*）)[\s.]*"
)  # "[Music]", "(applause)"

# What Whisper writes on silence, noise and music, in many languages; collected from reports in the issue trackers and
# discussions of openai/whisper, SYSTRAN/faster-whisper and m-bain/whisperX. All are compared as `_plain` leaves them.
# Nobody says these on the telephone: alone in a segment they are enough.
_NEVER_SAID = (
    "thank you for watching",
    "thanks for watching",
    "thank you so much for watching",
    "please subscribe",
    "please like and subscribe",
    "like and subscribe",
    "dont forget to subscribe",
    "please subscribe to my channel",
    "subscribe to my channel",
    "see you in the next video",
    "ill see you in the next video",
    "vielen dank fürs zuschauen",
    "danke fürs zuschauen",
    "bis zum nächsten mal untertitel",
    "merci davoir regardé cette vidéo",
    "merci davoir regardé",
    "abonnez vous",
    "gracias por ver el video",
    "gracias por ver",
    "suscríbete al canal",
    "suscríbete",
    "obrigado por assistir",
    "inscreva se no canal",
    "grazie per aver guardato il video",
    "grazie per la visione",
    "iscrivetevi al canale",
    "bedankt voor het kijken",
    "tack för att ni tittade",
    "takk for att du så på",
    "dziękuję za oglądanie",
    "dziękuję za uwagę napisy",
    "děkuji za pozornost titulky",
    "izlediğiniz için teşekkür ederim",
    "izlediğiniz için teşekkürler",
    "abone olmayı unutmayın",
    "продолжение следует",
    "спасибо за просмотр",
    "подписывайтесь на канал",
    "подпишись на канал",
    "дякую за перегляд",
    "اشتركوا في القناة",
    "شكرا على المشاهدة",
    "شكرا للمشاهدة",
    "תודה על הצפייה",
    "תודה שצפיתם",
    "ご視聴ありがとうございました",
    "ご視聴ありがとうございます",
    "最後までご視聴いただきありがとうございます",
    "チャンネル登録お願いします",
    "チャンネル登録をお願いいたします",
    "시청해주셔서 감사합니다",
    "시청해 주셔서 감사합니다",
    "구독과 좋아요 부탁드립니다",
    "한글자막 제공",
    "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
    "請不吝點贊 訂閱 轉發 打賞支持明鏡與點點欄目",
    "谢谢观看",
    "謝謝觀看",
    "感谢观看",
    "感謝觀看",
    "谢谢大家观看",
    "謝謝大家收看",
    "cảm ơn các bạn đã theo dõi",
    "hãy subscribe cho kênh ghiền mì gõ để không bỏ lỡ những video hấp dẫn",
    "terima kasih telah menonton",
    "देखने के लिए धन्यवाद",
)
# Subtitle credits: what follows is a name, a company or a year. Matched at the start of a text.
_CREDITS = (
    r"(sub)?titles? (by|provided by|created by)\b",
    r"(closed )?caption(s|ed|ing) (by|provided by)\b",
    r"subs by\b",
    r"transcri(bed|ption) (by|outsourcing)\b",
    r"translated by\b",
    r"untertitel(ung)?( im auftrag)? (der|des|von|für|im|aufgrund)\b",
    r"untertitelung\b",
    r"copyright (wdr|ard|zdf|orf|swr)\b",
    r"sous titr(es|age) (réalisés|realises|fait|par|st|société|soustitreur|radio)",
    r"sous titrage\b",
    r"subtítulos (realizados|creados|por|en)\b",
    r"legendas? (pela|por|em)\b",
    r"sottotitoli (creati|e revisione|di|a cura)\b",
    r"ondertitel(d|ing|s)? (door|ingediend)\b",
    r"(undertexter|textning|svensktextning|text) (från|av|stina|nu)\b",
    r"(teksting|undertekster|danske tekster) (av|af)\b",
    r"(napisy|tłumaczenie) (stworzone|wykonane|przez|org)\b",
    r"titulky (vytvořil|by)\b",
    r"altyazı (m ?k|çeviri|by)\b",
    r"(субтитры|редактор субтитров|субтитрування)\b",
    r"субтитри\b",
    r"ترجمة (نانسي|من)\b",
    r"تمت الترجمة\b",
    r"כתוביות (של|על ידי)\b",
    r"字幕 ?(by|由|製作|制作|志愿者|提供|組|组)",
    r"中文字幕",
    r"(優優|优优)獨播劇場",
    r"(자막|번역) ?(제공|by|제작)",
)
# Said in every call, and written on silence too: doubtful only where the rest is.
_OFTEN_SAID = (
    *("you", "thank you", "thanks", "thank you very much", "thank you so much", "bye", "bye bye", "okay", "so", "oh"),
    *(
        "the end",
        "hmm",
        "mm",
        "uh",
        "yeah",
        "vielen dank",
        "danke",
        "tschüss",
        "merci",
        "gracias",
        "obrigado",
        "grazie",
    ),
    *("dank je wel", "bedankt", "tack", "takk", "tak", "dziękuję", "děkuji", "teşekkürler", "teşekkür ederim"),
    *("спасибо", "дякую", "شكرا", "תודה", "תודה רבה", "धन्यवाद", "ありがとうございました", "ありがとうございます"),
    *(
        "おやすみなさい",
        "감사합니다",
        "네",
        "谢谢",
        "謝謝",
        "谢谢大家",
        "cảm ơn",
        "terima kasih",
        "ευχαριστώ",
        "kiitos",
    ),
)


def judge(
    text: str,
    *,
    voiced_share: float,
    compression_ratio: float,
    avg_logprob: float,
    no_speech_prob: float,
    duration_s: float,
) -> tuple[Flag, ...]:
    """Return why a segment is not to be trusted, in the order of `Flag`; nothing for one that is, or is empty.

    `voiced_share` (0 to 1): how much of the segment's span voice detection found voiced. `compression_ratio`,
    `avg_logprob` (natural, a token) and `no_speech_prob` as openai-whisper counts them. The thresholds of these three
    are openai-whisper's own (`compression_ratio_threshold`, `logprob_threshold`, `no_speech_threshold` of
    `whisper.transcribe`; Radford et al. 2022, section 4.5); those of voice, loops and speed are this project's.
    """
    if not text.strip():
        return ()
    plain = _plain(text)
    improbable = not avg_logprob >= MIN_AVG_LOGPROB  # NaN, of a decoding gone wrong, is improbable too
    silent = no_speech_prob > MAX_NO_SPEECH_PROB
    found: dict[Flag, bool] = {
        "no_voice": _voiceless(plain, voiced_share, duration_s) or (silent and improbable),  # or: openai-whisper's rule
        "repetition": _loops(plain) or _is_too_fast(plain, duration_s),
        "compression": compression_ratio > MAX_COMPRESSION_RATIO,
        "improbable": improbable,
        "phantom": _is_phantom(
            text,
            plain,
            doubtful=voiced_share < _LITTLE_VOICED_SHARE or silent or not avg_logprob >= _DOUBTFUL_LOGPROB,
        ),
    }
    return tuple(flag for flag, holds in found.items() if holds)


def _plain(text: str) -> str:
    """Letters, marks and digits alone, case and width folded, one space for all between; apostrophes join."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = re.sub(r"['’‘`´\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", "", folded)
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split())


def _letters(plain: str) -> int:
    """How long a text is to say, in letters."""
    spaces = plain.count(" ")
    return len(plain) - spaces + (_UNSPACED_WEIGHT - 1) * len(_UNSPACED_CHARACTER.findall(plain))


def _voiceless(plain: str, voiced_share: float, duration_s: float) -> bool:
    """Nobody spoke, or hardly, and then not for long enough to say all this."""
    if voiced_share < _MIN_VOICED_SHARE:
        return True
    return voiced_share < _LITTLE_VOICED_SHARE and _letters(plain) > MAX_LETTERS_PER_S * voiced_share * duration_s


def _is_too_fast(plain: str, duration_s: float) -> bool:
    letters = _letters(plain)
    return letters >= _RATE_LETTERS and letters > MAX_LETTERS_PER_S * duration_s


def _loops(plain: str) -> bool:
    """Whether a block of words, or of characters where words aren't parted, follows upon itself too often."""
    words: list[str] = _TOKEN.findall(plain)
    longest = max(words, key=len, default="")
    return _has_loop(words) or (len(longest) >= _LOOPS[0][1] and _has_loop(longest))


def _has_loop(tokens: Sequence[str]) -> bool:
    for period in range(1, min(_MAX_PERIOD, len(tokens) // 2) + 1):
        same = 0  # tokens in a row that are like those a period before
        for at in range(period, len(tokens)):
            same = same + 1 if tokens[at] == tokens[at - period] else 0
            if same >= period:
                block = "".join(tokens[at - period + 1 : at + 1])
                limit = next(times for letters, times in _LOOPS if _letters(block) <= letters)
                if same // period + 1 >= limit:
                    return True
    return False


def _is_phantom(text: str, plain: str, *, doubtful: bool) -> bool:
    if not plain or _SOUND_NAMED.fullmatch(text):  # "♪♪", "...", "[Music]"
        return True
    # Phrases may come several at once: each sentence is looked at, and all must be known.
    sentences = [sentence for part in _SENTENCE_END.split(text) if (sentence := _plain(part))]
    if plain in _NEVER or all(sentence in _NEVER or _CREDIT.match(sentence) for sentence in sentences):
        return True
    if not doubtful:
        return False
    squeezed = _squeezed(plain)
    return (
        all(sentence in _NEVER | _OFTEN or _CREDIT.match(sentence) for sentence in sentences)
        or any(_CREDIT.match(sentence) for sentence in sentences)
        or any(_squeezed(phrase) in squeezed for phrase in _NEVER)
    )


def _squeezed(plain: str) -> str:
    return plain.replace(" ", "")


_NEVER = frozenset(_plain(phrase) for phrase in _NEVER_SAID)
_OFTEN = frozenset(_plain(phrase) for phrase in _OFTEN_SAID)
_CREDIT = re.compile("|".join(f"(?:{credit})" for credit in _CREDITS))
