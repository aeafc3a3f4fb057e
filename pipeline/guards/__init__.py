"""Who else has registered a study: one file a way to ask, its name the word in `guard = { kind = "..." }`.

A guard only tells which institutions a study is registered at; what follows from that is decided here, once.
"""

import importlib
import pkgutil
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.dicomweb.qido import Qido
from pipeline.dicomweb.urls import line_to_paste
from pipeline.errors import Held
from pipeline.events import escaped
from pipeline.model import Item


class Guard(BaseModel):
    """How to ask. `kind` is the module's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    @property
    def is_on(self) -> bool:
        """Say whether there is anything to ask."""
        return True

    def institutions_of(self, study_instance_uid: str, archive: Qido) -> Iterable[str]:
        """Return the Institution Names the study is registered with, none if it is unknown there.

        Raises Transient (PeerUnavailable where it is the archive) if there is no answer: nothing is sent
        unchecked. Raises Configuration where a person must change something first.
        """
        raise NotImplementedError


def kinds() -> list[str]:
    """Return the kinds there are: the modules of this room."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_table(table: Any) -> Guard:
    """Return the guard a `guard = {...}` describes; raises ValueError naming the key."""
    if isinstance(table, Guard):
        return table
    kind = table.get("kind") if isinstance(table, dict) else None
    if kind not in kinds():
        raise ValueError(f"kind = {kind!r} is none of {', '.join(kinds())}")
    guard: Guard = importlib.import_module(f"{__name__}.{kind}").GUARD.model_validate(table)
    return guard


def check(registered_at: Iterable[str], items: Sequence[Item]) -> None:
    """Raise Held unless every institution the study is registered at is the one mapped for every item.

    Names are equal when their characters and single blanks are: how often blanks stand, and how accents
    are composed, says nothing about the place. Without a mapped institution nothing can be compared.
    """
    for item in items:
        if not _plain(item.institution or ""):
            raise Held(f"no institution is mapped, so the guard cannot compare; {line_to_paste(item)}")
    ours = {_plain(item.institution or "") for item in items}
    for name in sorted(registered_at):
        if _plain(name) and {_plain(name)} != ours:
            raise Held(f"registered at {escaped(name, limit=64)}")


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())
