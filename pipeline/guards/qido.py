"""guard = { kind = "qido" }: ask the archive itself for the study's series."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pipeline.guards import Guard

if TYPE_CHECKING:
    from pipeline.dicomweb.qido import Qido


class QidoGuard(Guard):
    """Compare with the Institution Names (0008,0080) of the study's series in the archive."""

    kind: Literal["qido"]

    def institutions_of(self, study_instance_uid: str, archive: "Qido") -> Iterable[str]:
        """Return the Institution Names of the series; raises as Qido does."""
        return archive.institutions_of(study_instance_uid)


GUARD = QidoGuard
