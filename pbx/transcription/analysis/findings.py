"""The input and the result of an analysis, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CALLER = "caller"
AGENT = "agent"


@dataclass(frozen=True, slots=True)
class SpokenSegment:
    """Something said, and its speaker: "caller", "agent", or "" if unknown.

    Times are in seconds from the recording's start. Segments with flags (see pbx.model.segment) are not analysed.
    """

    start_s: float
    end_s: float
    speaker: str
    text: str
    flags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Quote:
    """A notable sentence, such as a question: its position in the recording, its speaker and its text."""

    start_s: float
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """The analysis of one transcript. See pbx.transcription.analysis.measures for the definition of each measure.

    `reason`, `outcome`, `sentiment` ("positive", "neutral", "negative", "mixed") and `follow_ups` are only set by a
    language server. `fallback_reason`: why the local summary replaces the server's, "" if it doesn't.
    """

    summary: str = ""  # one line per turn, such as "Caller: I need help with my invoice."
    key_phrases: list[str] = field(default_factory=list)  # most important first
    questions: list[Quote] = field(default_factory=list)
    talk_s: dict[str, float] = field(default_factory=dict)  # per speaker
    talk_ratio: float | None = None  # the agent's share of talk, 0 to 1
    longest_silence: tuple[float, float] | None = None  # its start and its length in seconds
    interruptions: int = 0
    first_response_s: float | None = None
    reason: str = ""  # for calling
    outcome: str = ""
    sentiment: str = ""
    follow_ups: list[str] = field(default_factory=list)
    engine: str = "local"  # or the language server's model
    fallback_reason: str = ""

    def to_document(self) -> dict[str, Any]:
        """Return the analysis as data for JSON."""
        document = asdict(self)
        if self.longest_silence is not None:
            document["longest_silence"] = list(self.longest_silence)
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Analysis":
        """Return the analysis that `to_document` made data of. Ignores unknown keys; missing ones get defaults."""
        values = {name: document[name] for name in cls.__dataclass_fields__ if document.get(name) is not None}
        if "questions" in values:
            values["questions"] = [Quote(**question) for question in values["questions"]]
        if "longest_silence" in values:
            start_s, length_s = values["longest_silence"]
            values["longest_silence"] = (start_s, length_s)
        return cls(**values)
