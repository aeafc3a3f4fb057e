"""guard = { kind = "none" }: ask nobody. This is the default."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pipeline.guards import Guard

if TYPE_CHECKING:
    from pipeline.dicomweb.qido import Qido


class NoGuard(Guard):
    """Let every study pass."""

    kind: Literal["none"] = "none"

    @property
    def is_on(self) -> bool:
        """Return False, because this guard asks nothing."""
        return False

    def institutions_of(self, study_instance_uid: str, archive: "Qido") -> Iterable[str]:  # noqa: ARG002
        """Return no names."""
        return ()


GUARD = NoGuard
