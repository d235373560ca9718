"""A step of the connection check, and how a list of steps is run."""

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from pbx.errors import PbxError

StepState = Literal["ok", "failed", "skipped", "warning"]


class CheckStep(BaseModel):
    """The result of one step, as the page, the command line and its JSON show it.

    `fix`: the likely causes, the most likely first, each with the lines to enter after its first line break.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    state: StepState
    finding: str
    fix: list[str] = []
    took_ms: int = 0


@dataclass(frozen=True)
class StepResult:
    """What a step found: a text, its state, and fixes (see CheckStep)."""

    text: str
    state: StepState = "ok"
    fix: list[str] = field(default_factory=list)


class StepFailed(Exception):
    """Raised by a step that failed, with what it found and the fixes (see CheckStep)."""

    def __init__(self, text: str, fix: list[str]) -> None:
        super().__init__(text)
        self.fix = fix


@dataclass(frozen=True)
class Check:
    """A step to run. `required`: the later steps can't run if this one fails."""

    name: str
    action: Callable[[], StepResult]
    required: bool = True


class CheckSession:
    """Steps that share what they open. A context manager, which closes it."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def run(checks: Iterable[Check], failed: str = "") -> Generator[CheckStep, None, str]:
    """Run the steps in order and yield each result. After a required step has failed, skip the rest.

    `failed`: the name of an earlier step that failed, which skips all of them. Returns the name of the required step
    that failed, or "".
    """
    for check in checks:
        if failed:
            yield CheckStep(name=check.name, state="skipped", finding=f"Skipped because “{failed}” failed.")
            continue
        started = time.monotonic()
        found = _run_check(check)
        took_ms = round((time.monotonic() - started) * 1000)
        yield CheckStep(name=check.name, state=found.state, finding=found.text, fix=found.fix, took_ms=took_ms)
        if check.required and found.state == "failed":
            failed = check.name
    return failed


def _run_check(check: Check) -> StepResult:
    try:
        return check.action()
    except StepFailed as failure:
        return StepResult(str(failure), "failed", failure.fix)
    except PbxError as error:
        return StepResult(str(error), "failed", [error.fix] if error.fix else [])
