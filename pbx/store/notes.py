"""What the analyst adds: notes, ratings and tags on calls, and topics with the phrases that indicate them."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from pbx.errors import PbxError
from pbx.store.models import CallNote, CallRow, CallTag, Topic, now

RATINGS = range(1, 6)
MAX_NOTE_CHARACTERS = 20_000  # characters
_LONGEST_TAG = 60  # characters


def get_note(session: Session, call_id: int) -> CallNote | None:
    """Return a call's note and rating, or None if it has neither."""
    return session.get(CallNote, call_id)


def save_note(session: Session, call_id: int, text: str, base: str | None = None) -> str:
    """Save a call's note, replacing the previous one; returns the text that was saved.

    `base`: the saved note that the user started editing, if known. If a different note was saved in the meantime, its
    new lines are added below the text. Raises PbxError for a text longer than MAX_NOTE_CHARACTERS.
    """
    text = clean_text(text)
    if len(text) > MAX_NOTE_CHARACTERS:
        raise PbxError(f"A note holds {MAX_NOTE_CHARACTERS:,} characters; this one has {len(text):,}.", "Shorten it.")
    row = session.get(CallNote, call_id)
    saved = row.note if row else ""
    if base is not None and saved != base:
        text = _add_lines_saved_meanwhile(text, base, saved)
    kept = text if text.strip() else ""
    _store(session, call_id, kept, row.rating if row else None)
    return kept


def save_rating(session: Session, call_id: int, rating: int | None) -> None:
    """Save a call's rating, replacing the previous one; None removes it. Raises ValueError unless it is 1 to 5."""
    if rating is not None and rating not in RATINGS:
        raise ValueError(f"a rating is 1 to 5, not {rating}")
    row = session.get(CallNote, call_id)
    _store(session, call_id, row.note if row else "", rating)


def _store(session: Session, call_id: int, note: str, rating: int | None) -> None:
    """Save a call's note and rating, or delete its row if both are empty."""
    row = session.get(CallNote, call_id)
    if not note and rating is None:
        if row is not None:
            session.delete(row)
    elif row is None or (row.note, row.rating) != (note, rating):
        row = row or CallNote(call_id=call_id)
        row.note, row.rating, row.updated_at = note, rating, now()
        session.add(row)
    session.flush()


def _add_lines_saved_meanwhile(text: str, base: str, saved: str) -> str:
    """Return the text, followed by the lines of `saved` that are in neither `text` nor `base`."""
    known = set(base.splitlines())
    new_lines = [line for line in saved.splitlines() if line.strip() and line not in known and line not in text]
    return "\n".join([*([text] if text.strip() else []), *new_lines]) if new_lines else text


def set_tags(session: Session, call_id: int, tags: Sequence[str]) -> None:
    """Set a call's tags, replacing the previous ones. If tags differ only in case, the first one is used."""
    session.execute(delete(CallTag).where(col(CallTag.call_id) == call_id))
    session.add_all(CallTag(call_id=call_id, tag=tag) for tag in _distinct(tags, _LONGEST_TAG))
    session.flush()


def change_tags(session: Session, call_id: int, before: Sequence[str], after: Sequence[str]) -> None:
    """Add the tags that are only in `after`, and remove those that are only in `before`; other tags are unchanged."""
    had, wanted = ({tag.casefold() for tag in tags} for tags in (before, after))
    stay = [tag for tag in tags_of(session, call_id) if tag.casefold() not in had - wanted]
    set_tags(session, call_id, [*stay, *(tag for tag in after if tag.casefold() not in had)])


def tags_of(session: Session, call_id: int) -> list[str]:
    """Return a call's tags, sorted by name."""
    return sorted(session.exec(select(CallTag.tag).where(CallTag.call_id == call_id)), key=_by_name)


def all_tags(session: Session, connection_id: int) -> list[str]:
    """Return all tags on the calls of a PBX, sorted by name."""
    query = (
        select(CallTag.tag)
        .join(CallRow, col(CallRow.id) == CallTag.call_id)
        .where(CallRow.connection_id == connection_id)
    )
    return sorted(session.exec(query.distinct()), key=_by_name)


def topics(session: Session) -> list[Topic]:
    """Return all topics, sorted by name."""
    return sorted(session.exec(select(Topic)), key=lambda topic: _by_name(topic.name))


def save_topic(session: Session, name: str, phrases: Sequence[str], topic_id: int | None = None) -> Topic:
    """Add a topic, or change the topic `topic_id`.

    Raises PbxError if the name or all phrases are empty, another topic has the same name, or the topic was deleted.
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
    """Delete a topic. Does nothing if it was already deleted."""
    session.execute(delete(Topic).where(col(Topic.id) == topic_id))


def clean_text(text: str) -> str:
    """Remove what a database can't store: NUL (PostgreSQL rejects it) and lone surrogates (UTF-8 can't encode them)."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()


def _distinct(names: Iterable[str], longest: int | None = None) -> list[str]:
    """Return the names in order, with spaces collapsed, and without empty names and duplicates (ignoring case)."""
    clean = (" ".join(clean_text(name).split())[:longest].strip() for name in names)
    return list({name.casefold(): name for name in reversed([name for name in clean if name])}.values())[::-1]


def _by_name(name: str) -> tuple[str, str]:
    return name.casefold(), name
