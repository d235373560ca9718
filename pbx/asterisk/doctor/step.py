"""A step of the check, and how steps that stand on one another are run."""

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pbx.errors import PbxError

StepState = Literal["ok", "failed", "skipped", "warning"]


class CheckStep(BaseModel):
    """One step: what was found, and what fixes it: the likely causes in their order, each with the lines to write."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: StepState
    finding: str
    fix: list[str] = []
    took_ms: int = 0


@dataclass(frozen=True)
class StepResult:
    """What a step found."""

    text: str
    state: StepState = "ok"
    fix: list[str] = field(default_factory=list)


class Trouble(Exception):
    """A step failed."""

    def __init__(self, text: str, fix: list[str]) -> None:
        super().__init__(text)
        self.fix = fix


@dataclass(frozen=True)
class Check:
    """A step to run; `bears` when the later ones stand on it."""

    name: str
    look: Callable[[], StepResult]
    bears: bool = True


def run(checks: Iterable[Check], failed: str = "") -> Generator[CheckStep, None, str]:
    """Run steps in their order, until one that bears the others fails (or `failed`, by name, has failed before).

    Returns the name of the step that failed, "" if none did.
    """
    for check in checks:
        if failed:
            yield CheckStep(name=check.name, state="skipped", finding=f"Not tried, because “{failed}” failed.")
            continue
        begun = time.monotonic()
        found = _look(check)
        took_ms = round((time.monotonic() - begun) * 1000)
        yield CheckStep(name=check.name, state=found.state, finding=found.text, fix=found.fix, took_ms=took_ms)
        if check.bears and found.state == "failed":
            failed = check.name
    return failed


def _look(check: Check) -> StepResult:
    try:
        return check.look()
    except Trouble as trouble:
        return StepResult(str(trouble), "failed", trouble.fix)
    except PbxError as error:
        return StepResult(str(error), "failed", [error.fix] if error.fix else [])
