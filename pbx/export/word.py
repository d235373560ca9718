"""Transcripts as Word documents."""

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import docx
from docx.enum.style import WD_STYLE_TYPE
from docx.enum.text import WD_BREAK
from docx.oxml import OxmlElement
from docx.shared import Cm, Pt, RGBColor

from pbx.export.call import CallTranscript, TranscriptLine
from pbx.export.text import OneOrMoreCalls, clock_text, iter_calls, line_text

MUTED = RGBColor(0x5F, 0x6F, 0x77)
MAX_TURN_CHARACTERS = 700  # longer paragraphs are hard to read
TIME_COLUMN = Cm(1.6)
TURN_STYLE = "Turn"
_AFTER_BIDI = ("w:adjustRightInd", "w:snapToGrid", "w:spacing", "w:ind", "w:contextualSpacing", "w:jc", "w:rPr")


def to_docx(calls: OneOrMoreCalls, *, doubtful: bool = False) -> bytes:
    """Return calls as a Word document: for each a heading, a table of details, the summary, and its turns."""
    document = docx.Document()
    normal = document.styles["Normal"]
    normal.font.name, normal.font.size = "Calibri", Pt(10.5)
    normal.paragraph_format.space_after = Pt(4)
    turn = document.styles.add_style(TURN_STYLE, WD_STYLE_TYPE.PARAGRAPH)
    turn.base_style, layout = normal, turn.paragraph_format
    layout.left_indent, layout.first_line_indent = TIME_COLUMN, -TIME_COLUMN
    layout.tab_stops.add_tab_stop(TIME_COLUMN)
    about = document.core_properties
    about.author, about.comments = "PBX Notebook", ""
    about.created = about.modified = datetime.now(UTC).replace(tzinfo=None)
    for number, call in enumerate(iter_calls(calls)):
        if number:
            document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)
        else:
            about.title = call.title[:255]
        _write(document, call, doubtful)
    file = BytesIO()
    document.save(file)
    return file.getvalue()


def _write(document: Any, call: CallTranscript, doubtful: bool) -> None:
    document.add_heading(call.title, level=1)
    facts = document.add_table(rows=len(call.facts), cols=2)
    for row, (name, value) in zip(facts.rows, call.facts.items(), strict=True):
        cells = row.cells
        cells[0].width, cells[1].width = Cm(3.6), Cm(12.4)
        cells[0].paragraphs[0].add_run(name).font.color.rgb = MUTED
        _add_text(cells[1].paragraphs[0], value)
    for heading, text in (("Summary", call.summary), ("Note", call.note)):
        if text:
            document.add_heading(heading, level=2)
            for line in text.splitlines():
                _add_text(document.add_paragraph(), line)
    document.add_heading("Transcript", level=2)
    groups = call.recording_groups(doubtful=doubtful)
    for group in groups:
        if len(groups) > 1:
            document.add_heading(f"{', '.join(group.names)}, from {clock_text(group.offset_s)}", level=3)
        for turn in _turns(group.lines):
            _add_turn(document, turn)
    if not any(group.lines for group in groups):
        document.add_paragraph("No speech in this call." if call.recordings else "This call has no transcript.")


def _turns(lines: Sequence[TranscriptLine]) -> Iterator[list[TranscriptLine]]:
    """Group consecutive lines of one speaker into turns, up to a readable length."""
    turn: list[TranscriptLine] = []
    length = 0
    for line in lines:
        same = turn and (line.speaker, line.flags) == (turn[0].speaker, turn[0].flags) and line.text and line.speaker
        if not same or length + len(line.text) > MAX_TURN_CHARACTERS:
            if turn:
                yield turn
            turn, length = [], 0
        turn.append(line)
        length += len(line.text)
    if turn:
        yield turn


def _add_turn(document: Any, turn: Sequence[TranscriptLine]) -> None:
    paragraph = document.add_paragraph()
    paragraph._p.style = TURN_STYLE  # by id, because looking up styles by name is slow
    paragraph.add_run(f"{clock_text(turn[0].start_s)}\t").font.color.rgb = MUTED
    text = " ".join(line.text for line in turn)
    if not text:
        paragraph.add_run(line_text(turn[0])).italic = True
        return
    if who := " ".join(filter(None, (turn[0].speaker, "(doubtful)" if turn[0].flags else ""))):
        paragraph.add_run(f"{who}  ").bold = True
    _add_text(paragraph, text)


def _add_text(paragraph: Any, text: str) -> None:
    """Add text to a paragraph, marked as right-to-left if it is; otherwise Word orders it wrongly."""
    run = paragraph.add_run(text)
    if _right_to_left(text):
        run.font.rtl = True
        # The schema requires a fixed order of these elements.
        paragraph._p.get_or_add_pPr().insert_element_before(OxmlElement("w:bidi"), *_AFTER_BIDI)


def _right_to_left(text: str) -> bool:
    strong = (unicodedata.bidirectional(character) for character in text)
    return next((kind for kind in strong if kind in ("L", "R", "AL")), "L") != "L"
