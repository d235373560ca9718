"""The documented views: what a row is, and the name, type and meaning of each column.

`python -m pbx query --views`, docs/queries.md and pbx.analytics.views use this one description.
"""

from dataclasses import dataclass
from typing import Literal, cast, get_args

ViewColumnType = Literal["text", "integer", "number", "yes/no", "time", "texts"]
SQL_TYPES: dict[ViewColumnType, str] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "yes/no": "BOOLEAN",
    "time": "TIMESTAMP",
    "texts": "VARCHAR[]",
}


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a view: its name, its type, and what it contains."""

    name: str
    type: ViewColumnType
    description: str


@dataclass(frozen=True, slots=True)
class View:
    """A view: its name, what one row is, and its columns in order."""

    name: str
    row: str
    columns: tuple[ViewColumn, ...]


def _view(name: str, row: str, columns: str) -> View:
    """A view from a text with one line per column: name, type, description."""
    lines = ["pbx text The PBX: its host name or address", *columns.strip().splitlines()]
    found = (ViewColumn(n, cast(ViewColumnType, type_), text) for n, type_, text in (x.split(" ", 2) for x in lines))
    view = View(name, row, tuple(found))
    assert all(column.type in get_args(ViewColumnType) for column in view.columns)  # noqa: S101 - our own texts
    return view


_VIEWS = (
    _view(
        "calls",
        "A call: everything that shares a linkedid",
        """
call_id integer Identifies the call in all views, across all PBXs
linkedid text Asterisk's identifier, which all legs of the call share
source text The kind of system that recorded it: freepbx
started_at time When it started, in UTC
started_local time When it started, in the PBX's time zone
direction text inbound, outbound, internal or unknown
from_number text The number of the caller
from_name text The name of the caller
to_number text The number that was called
from_key integer The digit 1 and the last nine digits of from_number, however it is written; 0 without digits
to_key integer The same for to_number
did text Your number that an outside caller dialled
queue text The queues that it entered, separated by commas
agent text The agent's name; their extension if no queue lists a name for it
agent_extension text The extension that answered or, for an outbound call, that called
trunk text The first trunk that it used
outcome text answered, no_answer, busy, failed, congestion, in_progress or unknown
answered yes/no Whether somebody answered
wait_s number Seconds from the start of the call until somebody answered, with menus and queues
talk_s number Seconds of talk
duration_s number Seconds from the start to the end
hung_up_by text caller, agent, called (the other party of an outbound call), or "" if unknown
recorded yes/no Whether it has a recording
transcript_state text new, queued, transcribing, completed or failed; "" without a recording
language text The language of its transcript, such as en
rating integer The rating, 1 to 5
""",
    ),
    _view(
        "call_legs",
        "A leg of a call: a row of the CDR, or a dial attempt seen live",
        """
leg_id integer The leg's number in the app
call_id integer The call that it belongs to
leg integer Its position in the call, from 1
started_at time When it started, in UTC
ended_at time When it ended, in UTC
channel text The channel that called
dialled text The number that was dialled
destination text The channel that was called
from_number text The number of the caller
trunk text The trunk that it came in or went out through
outcome text answered, no_answer, busy, failed, congestion, in_progress or unknown
answered yes/no Whether it was answered
ring_s number Seconds until the answer or, without one, the end
talk_s number Seconds from the answer to the end
cause integer The hang-up cause (Q.850)
hung_up_by text caller, agent, called (the other party of an outbound call), or "" if unknown
transferred_to text The extension or channel that it was transferred to
""",
    ),
    _view(
        "queue_visits",
        "A caller's visit to a queue, from joining to leaving",
        """
visit_id integer The visit's number in the app
call_id integer The call that it belongs to, if known
queue text The queue
joined_at time When the caller joined, in UTC
joined_local time When the caller joined, in the PBX's time zone
outcome text answered, transferred, abandoned, timeout, exit_empty (no agent), exit_key, withdrawn, in_progress, unknown
answered yes/no Whether an agent took the call, including calls transferred or still in progress
wait_s number Seconds of waiting, including ringing
ring_s number Seconds for which the phone of the agent who answered rang
talk_s number Seconds of talk with the agent
agent text The agent who answered
position_joined integer The position in the queue when joining
position_left integer The position in the queue when leaving
hung_up_by text caller or agent, or "" if unknown; always caller for an abandoned visit
caller_number text The number of the caller
caller_name text The name of the caller
caller_key integer The digit 1 and the last nine digits of caller_number, as from_key of calls
did text Your number that the caller dialled
service_level_s number The queue's target time in seconds; 20 if it has none
within_target yes/no Whether the wait was at most service_level_s, answered or not
short_abandon yes/no Whether the caller hung up after less than 5 s
transferred_to text Where the agent transferred the call
called_back_at time After an abandoned visit: the next answered call from or to the caller's number, in UTC
called_back_call_id integer The call_id of that call, if known
""",
    ),
    _view(
        "agent_rings",
        "A ring at an agent's phone, missed or answered",
        """
agent text The agent
queue text The queue
call_id integer The call, if known
rang_at time When it started to ring, in UTC
rang_local time When it started to ring, in the PBX's time zone
ring_s number Seconds of ringing
answered yes/no Whether the agent answered
""",
    ),
    *(
        _view(
            f"agent_{what}s",
            row,
            f"""
agent text The agent
queue text The queue; "" for all of the agent's queues
started_at time When it started, in UTC
started_local time When it started, in the PBX's time zone
ended_at time When it ended, in UTC; NULL while it continues
duration_s number Its length in seconds; NULL while it continues
reason text {reason}
""",
        )
        for what, row, reason in (
            ("session", "A time for which an agent was logged in to a queue", "The reason of the login, if it has one"),
            ("pause", "A time for which an agent was paused in a queue", "The reason of the pause"),
        )
    ),
    _view(
        "trunk_calls",
        "A seizure: one channel used on a trunk",
        """
trunk text The trunk
call_id integer The call that it belongs to
started_at time When it started, in UTC
started_local time When it started, in the PBX's time zone
direction text inbound or outbound
answered yes/no Whether it was answered
pdd_s number Post-dial delay: seconds from dialling to the first ringing
talk_s number Seconds of talk
duration_s number Seconds for which the channel was used
cause integer The hang-up cause (Q.850)
outcome text answered, no_answer, busy, failed, congestion, in_progress or unknown
""",
    ),
    _view(
        "trunk_states",
        "A time for which a trunk was in one state, by its samples",
        """
trunk text The trunk
started_at time When it was first seen in this state, in UTC
ended_at time When another state was seen or, before a gap and for the newest state, the last sample; in UTC
duration_s number Seconds between the two
state text registered, rejected, unreachable …
""",
    ),
    _view(
        "queue_samples",
        "A queue in one snapshot; the counters are Asterisk's own",
        """
taken_at time When, in UTC
queue text The queue
calls_waiting integer Callers waiting
longest_wait_s integer The longest wait of these, in seconds
agents_available integer Agents who could take a call
agents integer Agents logged in
agents_paused integer Agents paused
completed integer Asterisk's counter of completed calls
abandoned integer Asterisk's counter of abandoned calls
hold_time_s integer Asterisk's moving average of the wait, in seconds
talk_time_s integer Asterisk's moving average of the talk time, in seconds
""",
    ),
    _view(
        "trunk_samples",
        "A trunk in one snapshot",
        """
taken_at time When, in UTC
trunk text The trunk
state text registered, rejected, unreachable …
channels integer Its channels in use
roundtrip_ms number The round trip to the provider in milliseconds
""",
    ),
    _view(
        "extension_samples",
        "A change of an extension's state; it applies until the next one",
        """
taken_at time When, in UTC
extension text The extension
technology text Its channel technology, such as PJSIP
status text Its state; "" when it was removed from the PBX
""",
    ),
    _view(
        "recordings",
        "A recording of a call",
        """
recording_id integer The recording's number in the app
call_id integer The call that it belongs to
name text Its name on the PBX
state text downloaded, listed, downloading, waiting, empty, unreadable, too_large, missing or failed
started_at time When it started, in UTC
duration_s number Its length in seconds
channels integer Its channels of sound; known once it is transcribed
size_bytes integer The size of its file
reason text Why it isn't downloaded
""",
    ),
    _view(
        "transcripts",
        "The current transcript of a recording",
        """
transcript_id integer The transcript's number in the app
recording_id integer The recording
call_id integer The call
engine text The speech engine
model text The speech model
language text The language, such as en
created_at time When it was made, in UTC
speech_s number Seconds of speech
words integer Words in it
doubtful_segments integer Phrases with a reason to doubt them
""",
    ),
    _view(
        "segments",
        "A phrase that was said: a segment of a current transcript",
        """
segment_id integer The phrase's number in the app
transcript_id integer The transcript
call_id integer The call
started_s number Where it starts in the recording, in seconds
ended_s number Where it ends in the recording, in seconds
speaker text caller, agent, or "" if unknown
speaker_is_estimated yes/no Whether the speaker is a guess; currently always no
text text What was said
confidence number The model's mean probability, 0 to 1
doubt text Why the text may be wrong, or "music" or "ringing"; "" if none
edited yes/no Whether somebody corrected the text
at time When it was said, in UTC; a reserved word of SQL, so write "at" in double quotes
said_at time The same, under a name that needs no quotes
""",
    ),
    _view(
        "conversation",
        "Figures of a transcribed call, from its transcript with the most speech",
        """
call_id integer The call
transcript_id integer The transcript
talk_share_agent number The agent's share of the talk time, 0 to 1
longest_silence_s number The longest time without speech, in seconds
interruptions integer How often one speaker interrupted the other
first_response_s number Seconds until the agent first answered the caller
words_per_minute number Words per minute of speech
summary text The summary
reason text Why the caller called; only if a language server is set up
outcome text How the call ended; only from a language server
sentiment text positive, neutral, negative or mixed; only from a language server
topics texts Your topics that were mentioned
""",
    ),
    _view("call_tags", "A tag of a call", "call_id integer The call\ntag text The tag"),
    _view(
        "call_notes",
        "The note and the rating of a call",
        """
call_id integer The call
note text The note
rating integer The rating, 1 to 5
updated_at time When it was last changed, in UTC
""",
    ),
    _view(
        "alerts",
        "A problem that an alert rule found",
        """
alert_id integer The alert's number in the app
rule text longest_wait, service_level, trunk_down, no_agent or sync_failing
subject text The queue or trunk; "" for the PBX
started_at time When it started, in UTC
ended_at time When it ended, in UTC; NULL while it continues
duration_s number Its length in seconds; NULL while it continues
what text What the rule found
""",
    ),
    _view(
        "unobserved",
        "A period that neither live events, imports nor snapshots cover",
        """
started_at time When it started, in UTC
ended_at time When it ended, in UTC
what text What is unknown: queues, calls or snapshots
""",
    ),
)
VIEWS: dict[str, View] = {view.name: view for view in _VIEWS}


def views_text() -> str:
    """The views and their columns as Markdown, for docs/queries.md."""
    return "\n\n".join(_view_text(view) for view in _VIEWS)


def _view_text(view: View) -> str:
    rows = "\n".join(f"| `{column.name}` | {column.type} | {column.description} |" for column in view.columns)
    return f"### {view.name}\n\n{view.row}.\n\n| column | type | meaning |\n|---|---|---|\n{rows}"
