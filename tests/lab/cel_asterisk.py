"""An Asterisk that writes the CDR and CEL of hang-ups, busy and unanswered calls, queue calls and transfers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.queue_asterisk import QueueAsterisk

AMI_PORTS = {16: 5816, 22: 5822}
CEL_COLUMNS = tuple(
    "eventtype eventtime cid_num exten context channame appname uniqueid linkedid peer extra".split()  # noqa: SIM905
)
MASTER_COLUMNS = tuple(
    """accountcode src dst dcontext clid channel dstchannel lastapp lastdata calldate answer end duration billsec
    disposition amaflags uniqueid userfield peeraccount linkedid sequence""".split()  # noqa: SIM905
)
CEL_TABLE = """
CREATE TABLE cel (
  id int(11) NOT NULL AUTO_INCREMENT,
  eventtype varchar(30) NOT NULL,
  eventtime datetime NOT NULL,
  cid_name varchar(80) NOT NULL DEFAULT '',
  cid_num varchar(80) NOT NULL DEFAULT '',
  cid_ani varchar(80) NOT NULL DEFAULT '',
  cid_rdnis varchar(80) NOT NULL DEFAULT '',
  cid_dnid varchar(80) NOT NULL DEFAULT '',
  exten varchar(80) NOT NULL DEFAULT '',
  context varchar(80) NOT NULL DEFAULT '',
  channame varchar(80) NOT NULL DEFAULT '',
  appname varchar(80) NOT NULL DEFAULT '',
  appdata varchar(255) NOT NULL DEFAULT '',
  amaflags int(11) NOT NULL DEFAULT 0,
  accountcode varchar(20) NOT NULL DEFAULT '',
  uniqueid varchar(32) NOT NULL DEFAULT '',
  linkedid varchar(32) NOT NULL DEFAULT '',
  peer varchar(80) NOT NULL DEFAULT '',
  userdeftype varchar(255) NOT NULL DEFAULT '',
  extra varchar(512) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY uniqueid_index (uniqueid),
  KEY linkedid_index (linkedid)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""  # as in FreePBX, whose table has no index of the dates


@dataclass(frozen=True)
class CelAsterisk(QueueAsterisk):
    """An Asterisk with queues that writes the CDR and CEL, which its methods read."""

    def cel(self) -> list[dict[str, str]]:
        """The rows of the CEL file, in the order in which Asterisk wrote them."""
        return _rows(self.logs / "cel-custom/cel.csv", CEL_COLUMNS)

    def cdr(self) -> list[dict[str, str]]:
        """The rows of the CDR file, with FreePBX's column names."""
        return _rows(self.logs / "cdr-csv/Master.csv", MASTER_COLUMNS)

    def configure(self) -> None:
        super().configure()
        for name in ("cel-custom", "cdr-csv"):
            (self.logs / name).mkdir(exist_ok=True)


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [dict(zip(columns, row, strict=False)) for row in csv.reader(file)]


@contextmanager
def cel_asterisk(version: int) -> Iterator[CelAsterisk]:
    """Run this Asterisk, then stop it and delete its files."""
    asterisk = CelAsterisk(
        f"events-{version}", version, AMI_PORTS[version], suffix="-events", templates=("common", "queues", "events")
    )
    with asterisk.fresh():
        yield asterisk
