"""What analysing a transcript gives, and the shape in which it takes one. Pure data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CALLER = "caller"
AGENT = "agent"


@dataclass(frozen=True, slots=True)
class SpokenSegment:
    """A phrase and who said it: `speaker` is "caller", "agent", or "" where it can't be told.

    Times are in seconds of the recording. One with flags (those of pbx.model.segment) is not analysed.
    """

    start_s: float
    end_s: float
    speaker: str
    text: str
    flags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """Something said that is worth finding again: where in the recording, by whom, and what."""

    start_s: float
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was made of one transcript; pbx.transcription.analysis.measures says how each figure is defined.

    `reason`, `outcome`, `sentiment` ("positive", "neutral", "negative", "mixed") and `follow_ups` come from a language
    server only and are empty otherwise. `fallback_reason`: why the local engine stood in for the server, "" when it
    didn't.
    """

    summary: str = ""  # a line per speaker's turn, such as "Caller: I need help with my invoice."
    key_phrases: list[str] = field(default_factory=list)  # the most telling first
    questions: list[Quote] = field(default_factory=list)
    talk_s: dict[str, float] = field(default_factory=dict)  # per speaker
    talk_ratio: float | None = None  # the agent's share of talk, 0 to 1
    longest_silence: tuple[float, float] | None = None  # where it starts and how long it is, seconds
    interruptions: int = 0
    first_response_s: float | None = None
    reason: str = ""  # for calling
    outcome: str = ""
    sentiment: str = ""
    follow_ups: list[str] = field(default_factory=list)
    engine: str = "local"  # or the language server's model
    fallback_reason: str = ""

    def to_document(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        document = asdict(self)
        if self.longest_silence is not None:
            document["longest_silence"] = list(self.longest_silence)
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Analysis":
        """Return what `to_document` was made of. Unknown names are ignored, missing ones take their default."""
        known = {name: document[name] for name in cls.__dataclass_fields__ if document.get(name) is not None}
        if "questions" in known:
            known["questions"] = [Quote(**moment) for moment in known["questions"]]
        if "longest_silence" in known:
            start_s, length_s = known["longest_silence"]
            known["longest_silence"] = (start_s, length_s)
        return cls(**known)
