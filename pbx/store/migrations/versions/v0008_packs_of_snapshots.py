"""Triggers that drop the packed snapshots of a day when one of its snapshots changes."""

from alembic import op

revision = "0008"
down_revision = "0007"

_ROWS = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}


def upgrade() -> None:
    for change, rows in _ROWS.items():
        forget = " ".join(
            f"DELETE FROM day_packs WHERE kind = 'looks' AND day = {row}.taken_at / 86400"  # noqa: S608 - names above
            f" AND connection_id = (SELECT connection_id FROM subjects WHERE id = {row}.subject_id);"
            for row in rows
        )
        name = f"forget_trunk_samples_{change.lower()}"
        if op.get_bind().dialect.name == "sqlite":
            op.execute(f"CREATE TRIGGER {name} AFTER {change} ON trunk_samples BEGIN {forget} END")
            continue
        body = f"BEGIN {forget} RETURN NULL; END"
        op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
        op.execute(f"CREATE TRIGGER {name} AFTER {change} ON trunk_samples FOR EACH ROW EXECUTE FUNCTION {name}()")
