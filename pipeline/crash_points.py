"""The moments before and after every effect that survives this process: the tests kill it there.

Every function with such an effect (a commit, a rename, an unlink, an fsync, a request) names the effect here. The
name of a point says who asked for the effect, as in "after commit in line.settle.settle": a new step that uses
these functions therefore has its crash points. In production there is no observer, and no names are made.
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
_BETWEEN = {__name__, "contextlib"}  # Modules between such a function and its caller.
_doors: set[CodeType] = set()


def door(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function whose effects belong to its caller: the name of a point never contains it."""
    _doors.add(function.__code__)
    return function


@contextmanager
def around(effect: str) -> Iterator[None]:
    """Call the observer, if a test has set one, before the block and after it; not after a block that raises."""
    if observer is None:
        yield
        return
    place = _place()
    observer(f"before {effect} in {place}")
    yield
    if observer is not None:
        observer(f"after {effect} in {place}")


def _place() -> str:
    """Return module and function of the caller of the outermost marked function; "elsewhere" outside our code."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # a hundred times cheaper than `inspect.stack`
    while frame and (frame.f_globals["__name__"] in _BETWEEN or frame.f_code in _doors):
        frame = frame.f_back
    module = frame.f_globals["__name__"] if frame else ""
    if frame and module.startswith(_PACKAGE):
        return f"{module.removeprefix(_PACKAGE)}.{frame.f_code.co_name}"
    return "elsewhere"
