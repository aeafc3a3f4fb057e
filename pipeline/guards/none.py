"""guard = { kind = "none" }: nobody is asked. The default."""

from collections.abc import Iterable
from typing import Literal

from pipeline.dicomweb.qido import Qido
from pipeline.guards import Guard


class NoGuard(Guard):
    """Let everything through."""

    kind: Literal["none"] = "none"

    @property
    def is_on(self) -> bool:
        """Say that there is nothing to ask."""
        return False

    def institutions_of(self, study_instance_uid: str, archive: Qido) -> Iterable[str]:  # noqa: ARG002
        """Return nothing."""
        return ()


GUARD = NoGuard
