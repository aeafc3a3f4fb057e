"""The moments before and after every effect that outlives this process: the tests kill it there.

Every door to such an effect (a commit, a rename, an unlink, an fsync, a request) names the effect here. The name
of a point says who asked for the effect, as in "after commit in line.settle.settle": whoever writes a new step
through the doors has written its crash points too. In production there is no observer, and nothing is named.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

observer: Callable[[str], None] | None = None

_PACKAGE = f"{__package__}."
_BETWEEN = {__name__, "contextlib"}  # modules that stand between a door and its caller
_doors: set[CodeType] = set()


def door(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function whose effects are its caller's: it never stands in the name of a point."""
    _doors.add(function.__code__)
    return function


@contextmanager
def around(effect: str) -> Iterator[None]:
    """Tell the observer, if a test has set one, before the block and after it; not after one that raises."""
    if observer is None:
        yield
        return
    place = _place()
    observer(f"before {effect} in {place}")
    yield
    if observer is not None:
        observer(f"after {effect} in {place}")


def _place() -> str:
    """Return module and function of whoever called the outermost door; "elsewhere" where that is not our code."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # a hundred times cheaper than `inspect.stack`
    while frame and (frame.f_globals["__name__"] in _BETWEEN or frame.f_code in _doors):
        frame = frame.f_back
    module = frame.f_globals["__name__"] if frame else ""
    if frame and module.startswith(_PACKAGE):
        return f"{module.removeprefix(_PACKAGE)}.{frame.f_code.co_name}"
    return "elsewhere"
