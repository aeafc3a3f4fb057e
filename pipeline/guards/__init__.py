"""Guards ask where else a study is registered: one file for each kind, named as in `guard = { kind = "..." }`.

A guard only returns the institutions at which a study is registered; `check` decides what follows from that.
"""

import importlib
import pkgutil
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from pipeline.dicomweb.urls import line_to_paste
from pipeline.errors import Held
from pipeline.events import escaped
from pipeline.model import Item

if TYPE_CHECKING:
    from pipeline.dicomweb.qido import Qido


class Guard(BaseModel):
    """A way to ask where a study is registered. `kind` is the module's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    @property
    def is_on(self) -> bool:
        """Say whether this guard asks anything."""
        return True

    def institutions_of(self, study_instance_uid: str, archive: "Qido") -> Iterable[str]:
        """Return the Institution Names with which the study is registered; none if the study is unknown.

        Raises Transient (PeerUnavailable for the archive) if there is no answer: nothing is sent unchecked. Raises
        Configuration if a person must change something first.
        """
        raise NotImplementedError


def kinds() -> list[str]:
    """Return the names of the kinds: the modules of this room."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_table(table: Any) -> Guard:
    """Return the guard for a table `guard = {...}`; raises ValueError, which names the key."""
    if isinstance(table, Guard):
        return table
    kind = table.get("kind") if isinstance(table, dict) else None
    if kind not in kinds():
        raise ValueError(f"kind = {kind!r} is none of {', '.join(kinds())}")
    guard: Guard = importlib.import_module(f"{__name__}.{kind}").GUARD.model_validate(table)
    return guard


def check(registered_at: Iterable[str], items: Sequence[Item]) -> None:
    """Raise Held unless every institution of the study is the one mapped for every item.

    Two names are equal if their characters are equal; runs of blanks, and how accents are composed, do not count.
    An item without a mapped institution cannot be compared, which raises Held, too.
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
