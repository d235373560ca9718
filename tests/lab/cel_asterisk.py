"""An Asterisk that writes CDR and CEL of calls with every end: hang-ups, busy, no answer, queues, transfers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.queue_asterisk import QueueAsterisk

AMI_PORTS = {16: 5816, 22: 5822}
CEL = tuple(
    "eventtype eventtime cid_num exten context channame appname uniqueid linkedid peer extra".split()  # noqa: SIM905
)
MASTER = tuple(
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
"""  # FreePBX's; the dates have no index there


@dataclass(frozen=True)
class CelAsterisk(QueueAsterisk):
    """That Asterisk, and what it wrote."""

    def cel(self) -> list[dict[str, str]]:
        """The rows of CEL, in the order in which they were written."""
        return _rows(self.logs / "cel-custom/cel.csv", CEL)

    def cdr(self) -> list[dict[str, str]]:
        """The rows of the CDR, with FreePBX's columns."""
        return _rows(self.logs / "cdr-csv/Master.csv", MASTER)

    def configure(self) -> None:
        super().configure()
        for name in ("cel-custom", "cdr-csv"):
            (self.logs / name).mkdir(exist_ok=True)


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [dict(zip(columns, row, strict=False)) for row in csv.reader(file)]


@contextmanager
def cel_asterisk(version: int) -> Iterator[CelAsterisk]:
    """It runs; it and its files are gone afterwards."""
    site = CelAsterisk(
        f"events-{version}", version, AMI_PORTS[version], suffix="-events", templates=("common", "queues", "events")
    )
    with site.fresh():
        yield site
