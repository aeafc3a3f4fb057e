"""Split lists, because a statement takes a limited number of parameters."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

Value = TypeVar("Value")


def batches(values: Sequence[Value], size: int = 500) -> Iterable[Sequence[Value]]:
    """Split a list into pieces that fit the bound parameters of a statement."""
    return (values[at : at + size] for at in range(0, len(values), size))
