"""What the analyst adds: a note, a rating and tags on a call, and topics with the phrases that indicate them."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from pbx.errors import PbxError
from pbx.store.models import CallNote, CallRow, CallTag, Topic, now

RATINGS = range(1, 6)
LONGEST_NOTE = 20_000  # characters
_LONGEST_TAG = 60  # characters


def get_note(session: Session, call_id: int) -> CallNote | None:
    """A call's note and rating; None where nobody left either."""
    return session.get(CallNote, call_id)


def save_note(session: Session, call_id: int, text: str, base: str | None = None) -> str:
    """Keep what is written of a call, in place of what was; returns what is kept.

    `base`: the saved note that the text was written upon, where that is known. If another was saved meanwhile, what is
    new in it is kept below the text. Raises PbxError for a text longer than LONGEST_NOTE.
    """
    text = clean_text(text)
    if len(text) > LONGEST_NOTE:
        raise PbxError(f"A note holds {LONGEST_NOTE:,} characters; this one has {len(text):,}.", "Shorten it.")
    row = session.get(CallNote, call_id)
    saved = row.note if row else ""
    if base is not None and saved != base:
        text = _with_news(text, base, saved)
    kept = text if text.strip() else ""
    _keep(session, call_id, kept, row.rating if row else None)
    return kept


def save_rating(session: Session, call_id: int, rating: int | None) -> None:
    """Keep a call's rating in place of what was. Raises ValueError for one that is not 1 to 5."""
    if rating is not None and rating not in RATINGS:
        raise ValueError(f"a rating is 1 to 5, not {rating}")
    row = session.get(CallNote, call_id)
    _keep(session, call_id, row.note if row else "", rating)


def _keep(session: Session, call_id: int, note: str, rating: int | None) -> None:
    """Neither text nor rating: nothing is kept."""
    row = session.get(CallNote, call_id)
    if not note and rating is None:
        if row is not None:
            session.delete(row)
    elif row is None or (row.note, row.rating) != (note, rating):
        row = row or CallNote(call_id=call_id)
        row.note, row.rating, row.updated_at = note, rating, now()
        session.add(row)
    session.flush()


def _with_news(text: str, base: str, saved: str) -> str:
    """A text and, below it, the lines of the saved one that neither it nor what it was written upon has."""
    known = set(base.splitlines())
    news = [line for line in saved.splitlines() if line.strip() and line not in known and line not in text]
    return "\n".join([*([text] if text.strip() else []), *news]) if news else text


def set_tags(session: Session, call_id: int, tags: Sequence[str]) -> None:
    """Put these tags on a call, in place of those it had. Of tags that differ in case only the first is taken."""
    session.execute(delete(CallTag).where(col(CallTag.call_id) == call_id))
    session.add_all(CallTag(call_id=call_id, tag=tag) for tag in _distinct(tags, _LONGEST_TAG))
    session.flush()


def change_tags(session: Session, call_id: int, before: Sequence[str], after: Sequence[str]) -> None:
    """Put on a call the tags that are only in `after`, take off those only in `before`; all others stay as they are."""
    had, wanted = ({tag.casefold() for tag in tags} for tags in (before, after))
    stay = [tag for tag in tags_of(session, call_id) if tag.casefold() not in had - wanted]
    set_tags(session, call_id, [*stay, *(tag for tag in after if tag.casefold() not in had)])


def tags_of(session: Session, call_id: int) -> list[str]:
    """A call's tags, by name."""
    return sorted(session.exec(select(CallTag.tag).where(CallTag.call_id == call_id)), key=_by_name)


def all_tags(session: Session, connection_id: int) -> list[str]:
    """All tags on calls of a PBX, by name."""
    query = (
        select(CallTag.tag)
        .join(CallRow, col(CallRow.id) == CallTag.call_id)
        .where(CallRow.connection_id == connection_id)
    )
    return sorted(session.exec(query.distinct()), key=_by_name)


def topics(session: Session) -> list[Topic]:
    """All topics, by name."""
    return sorted(session.exec(select(Topic)), key=lambda topic: _by_name(topic.name))


def save_topic(session: Session, name: str, phrases: Sequence[str], topic_id: int | None = None) -> Topic:
    """Add a topic, or change the one of that id.

    Raises PbxError when the name or all phrases are empty, another topic has that name, or the topic is gone.
    """
    name, kept = " ".join(clean_text(name).split()), _distinct(phrases)
    if not name:
        raise PbxError("A topic needs a name.", "Write what it is about, for example “Refunds”.")
    if not kept:
        raise PbxError("A topic needs at least one phrase.", "Write what people say when it comes up, one per line.")
    topic = Topic(name=name) if topic_id is None else session.get(Topic, topic_id)
    if topic is None:
        raise PbxError("This topic is no longer there.", "Add it again if you still need it.")
    namesake = session.exec(select(Topic).where(func.lower(Topic.name) == name.lower(), Topic.id != topic_id)).first()
    if namesake is not None and namesake is not topic:
        raise PbxError(f"There is a topic “{namesake.name}” already.", "Choose another name, or change that topic.")
    topic.name, topic.phrases = name, kept
    session.add(topic)
    session.flush()
    return topic


def delete_topic(session: Session, topic_id: int) -> None:
    """Remove a topic; one that is gone already is no error."""
    session.execute(delete(Topic).where(col(Topic.id) == topic_id))


def clean_text(text: str) -> str:
    """Text as a database takes it: without NUL (PostgreSQL refuses it) and lone surrogates (no UTF-8 has them)."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()


def _distinct(names: Iterable[str], longest: int | None = None) -> list[str]:
    """Names without empty ones and repetitions, each with single spaces, in their order."""
    clean = (" ".join(clean_text(name).split())[:longest].strip() for name in names)
    return list({name.casefold(): name for name in reversed([name for name in clean if name])}.values())[::-1]


def _by_name(name: str) -> tuple[str, str]:
    return name.casefold(), name
