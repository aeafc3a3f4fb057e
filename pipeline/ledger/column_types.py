"""The types of columns whose values are more than SQL has a type for: what is read is what was written."""

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import JSON, BigInteger, ColumnElement, Dialect, Integer, literal
from sqlalchemy import String as AnyString
from sqlalchemy import Text as AnyText
from sqlalchemy.sql.operators import OperatorType, in_op, not_in_op
from sqlalchemy.types import TypeDecorator

# A whole number of 64 bits: SQLite's INTEGER always is one, and only by that name it numbers rows.
Integer64 = BigInteger().with_variant(Integer(), "sqlite")

Enumeration = TypeVar("Enumeration", bound=StrEnum)


def _without_nul(value: str | None) -> str | None:
    """Return the text as PostgreSQL can hold it: U+FFFD for each NUL that a peer wrote into it.

    No identity comes to differ by it, because what identifies an instance holds no NUL (line/identify.py).
    """
    return value if value is None or "\0" not in value else value.replace("\0", "\ufffd")


class String(TypeDecorator[str]):
    """A short text, without NUL."""

    impl = AnyString
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Replace NUL."""
        return _without_nul(value)


class Text(TypeDecorator[str]):
    """A text of any length, without NUL."""

    impl = AnyText
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Replace NUL."""
        return _without_nul(value)


class Word(TypeDecorator[Enumeration]):
    """One word of an enumeration."""

    impl = AnyString
    cache_ok = True

    class comparator_factory(TypeDecorator.Comparator[Any]):  # noqa: N801  # SQLAlchemy's name
        """Compare with several words as with as many parameters.

        SQLAlchemy otherwise makes the text of `in_` again each time that a statement is executed, because a list
        might have another length then: this took a twentieth of the worker's time of small studies.
        """

        def operate(self, op: OperatorType, *other: Any, **how: Any) -> ColumnElement[Any]:
            """Return the comparison; a list of words has one length for ever."""
            if op in {in_op, not_in_op} and isinstance(other[0], Collection) and other[0]:
                other = ([literal(word, self.expr.type) for word in sorted(other[0])],)
            return super().operate(op, *other, **how)

    def __init__(self, words: type[Enumeration]) -> None:
        super().__init__()
        self.words = words

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> Enumeration | None:
        """Return the member; raises ValueError where no member of this release has the word."""
        return None if value is None else self.words(value)


class Values(TypeDecorator[tuple[str, ...]]):
    """Several values as DICOM writes them, separated by backslashes (PS3.5 6.4); of none it is empty."""

    impl = AnyString
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, _dialect: Dialect) -> str | None:
        """Join the values; raises TypeError for a text, which is one value and no list of them."""
        if isinstance(value, str):
            raise TypeError(f"a tuple of values is expected, not the text {value!r}")
        return None if value is None else _without_nul("\\".join(value))

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
