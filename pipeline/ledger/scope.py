"""Scopes: within a scope, Study, Series and SOP Instance UID name one instance (docs/words.md).

The tables keep a scope as one text, which the unique index `one_of_each` needs. Only this file knows that text:
all other code passes `Scope`, and asks the ledger by the conditions below (docs/adr/0015-scopes.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Self

from sqlalchemy import ColumnElement, Dialect, FromClause, and_, cast, literal, literal_column, or_, type_coerce
from sqlalchemy import String as AnyString
from sqlalchemy.types import TypeDecorator

OUTSIDE_THE_LINE = "scope <> 'line'"  # The condition of the index `outside_the_line`.


class ScopeKind(StrEnum):
    """What an instance was received for."""

    LINE = "line"  # Every receiver that coerces; there is one such scope.
    RECEIVER = "receiver"  # A receiver with `coerce = false`; `Scope.name` is its name.
    RETRIEVAL = "retrieval"  # A retrieval from the PACS; `Scope.name` is its number.
    UNCLAIMED = "unclaimed"  # An arrival from the PACS that no retrieval waits for; `Scope.name` is its name.
    # An arrival at the receiver of orders from a sender that [pacs] does not name; `Scope.name` is its name.
    STRANGER = "stranger"
    SENT = "sent"  # An order of `storestow send`; `Scope.name` is its number.


FROM_THE_PACS = (ScopeKind.RETRIEVAL, ScopeKind.UNCLAIMED)
AT_THE_RECEIVER_OF_ORDERS = (*FROM_THE_PACS, ScopeKind.STRANGER)
OF_ORDERS = (*AT_THE_RECEIVER_OF_ORDERS, ScopeKind.SENT)


@dataclass(frozen=True, slots=True)
class Scope:
    """The set of instances within which a key names one thing; `name` is empty for the line."""

    kind: ScopeKind
    name: str = ""

    @property
    def text(self) -> str:
        """Return the scope as the tables and `account.json` keep it."""
        return self.kind.value if self.kind == ScopeKind.LINE else f"{self.kind.value}:{self.name}"

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Return the scope that the tables or an `account.json` keep as `text`.

        Raises ValueError if no release has written such a text.
        """
        kind, colon, name = text.partition(":")
        if bool(colon) == (kind == ScopeKind.LINE):
            raise ValueError(f"{text!r} is no scope")
        return cls(ScopeKind(kind), name)


LINE = Scope(ScopeKind.LINE)


def of_retrieval(number: int) -> Scope:
    """Return the scope of what the PACS sends for a retrieval."""
    return Scope(ScopeKind.RETRIEVAL, str(number))


def of_send(order: int | None) -> Scope:
    """Return the scope of the files given to a `storestow send`.

    `order` is None if the envelope of the files does not name the order.
    """
    return Scope(ScopeKind.SENT, str(order))


_scope_of = lru_cache(1024)(Scope.of_text)  # A thousand rows have the same few scopes.


class ScopeColumn(TypeDecorator[Scope]):
    """The type of a column that holds scopes."""

    impl = AnyString
    cache_ok = True

    def process_bind_param(self, value: Scope | None, _dialect: Dialect) -> str | None:
        """Return the text; raises TypeError for anything that is no `Scope`."""
        if value is not None and not isinstance(value, Scope):
            raise TypeError(f"a Scope is expected, not {value!r}")
        return None if value is None else value.text

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> Scope | None:
        """Return the scope; raises ValueError if no release has written such a text."""
        return None if value is None else _scope_of(value)


def is_of(rows: FromClause, scopes: Scope | Iterable[Scope]) -> ColumnElement[bool]:
    """Return the condition on instances that they are of this scope, or of one of these, outside the line.

    It holds for no instance of the line, so that the database may use the index `outside_the_line`.
    """
    is_it = rows.c.scope == scopes if isinstance(scopes, Scope) else rows.c.scope.in_(list(scopes))
    return and_(is_it, rows.c.scope != literal_column(f"'{ScopeKind.LINE.value}'"))


def is_of_kind(rows: FromClause, *kinds: ScopeKind) -> ColumnElement[bool]:
    """Return the condition on instances that their scope is of one of these kinds, none of which is the line."""
    text = type_coerce(rows.c.scope, AnyString)
    return or_(*(text.startswith(f"{kind.value}:") for kind in kinds))


def is_of_send(rows: FromClause, order: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition on instances that they were given to the `storestow send` in the column `order`."""
    text = literal(f"{ScopeKind.SENT.value}:") + cast(order, AnyString)
    return type_coerce(rows.c.scope, AnyString) == text
