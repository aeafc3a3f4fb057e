"""The table [programs] of site.toml: which external programs to use."""

from typing import Any, Self

from pydantic import ModelWrapValidatorHandler, PrivateAttr, model_validator

from pipeline.config.keys import Table

WITHOUT_EFFECT = ("dcmsend", "dcmmkdir")  # Keys of earlier releases: a site.toml that has them still starts.


class ProgramsTable(Table):
    """[programs]: absolute paths of external programs; empty means the system's own."""

    storescp: str = ""
    """DCMTK's storescp, which receives. Example: `"/opt/dcmtk/bin/storescp"`"""
    findscu: str = ""
    """DCMTK's findscu, which asks the PACS of orders. Example: `"/opt/dcmtk/bin/findscu"`"""
    movescu: str = ""
    """DCMTK's movescu, which has the PACS send, where `[pacs] retrieve = "move"`.
    Example: `"/opt/dcmtk/bin/movescu"`"""
    getscu: str = ""
    """DCMTK's getscu, which fetches from the PACS, where `[pacs] retrieve = "get"`.
    Example: `"/opt/dcmtk/bin/getscu"`"""
    echoscu: str = ""
    """DCMTK's echoscu, with which `storestow check` asks the PACS. Example: `"/opt/dcmtk/bin/echoscu"`"""
    xorriso: str = ""
    """xorriso, which writes disc images. Example: `"/opt/xorriso/bin/xorriso"`"""
    dictionary: str = ""
    """A DICOM dictionary of the site, which DCMTK's programs get as DCMDICTPATH.
    Example: `"/etc/storestow/dicom.dic"`"""

    _without_effect: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _leave_out_what_has_no_effect(cls, table: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(table, dict):
            return build(table)
        made = build({key: value for key, value in table.items() if key not in WITHOUT_EFFECT})
        made._without_effect = tuple(key for key in WITHOUT_EFFECT if key in table)  # noqa: SLF001  # our own, of the table just built
        return made

    def notes(self) -> list[str]:
        """Return what a person should know of this table: each key in it that has no effect, and the remedy."""
        return [f"{key} has no effect, no program of that name is used: delete it" for key in self._without_effect]
