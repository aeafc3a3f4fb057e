"""The types of columns whose values are more than SQL has a type for: what is read is what was written."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import JSON, Dialect, String
from sqlalchemy.types import TypeDecorator

Enumeration = TypeVar("Enumeration", bound=StrEnum)


class Word(TypeDecorator[Enumeration]):
    """One word of an enumeration."""

    impl = String
    cache_ok = True

    def __init__(self, words: type[Enumeration]) -> None:
        super().__init__()
        self.words = words

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> Enumeration | None:
        """Return the member; raises ValueError where no member of this release has the word."""
        return None if value is None else self.words(value)


class Values(TypeDecorator[tuple[str, ...]]):
    """Several values as DICOM writes them, separated by backslashes (PS3.5 6.4); of none it is empty."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, _dialect: Dialect) -> str | None:
        """Join the values; raises TypeError for a text, which is one value and no list of them."""
        if isinstance(value, str):
            raise TypeError(f"a tuple of values is expected, not the text {value!r}")
        return None if value is None else "\\".join(value)

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> tuple[str, ...] | None:
        """Return the values."""
        return None if value is None else tuple(value.split("\\")) if value else ()


class Tuples(TypeDecorator[tuple[tuple[Any, ...], ...]]):
    """A list of lists of equal length, as JSON."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> tuple[tuple[Any, ...], ...] | None:
        """Return a tuple of tuples."""
        return None if value is None else tuple(tuple(entry) for entry in value)


class Texts(TypeDecorator[tuple[str, ...]]):
    """A list of texts, as JSON."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> tuple[str, ...] | None:
        """Return a tuple."""
        return None if value is None else tuple(value)
