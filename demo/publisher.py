"""The CD publisher of the demonstration: a storescp; what came to it is told instead of burnt."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from programs import Program, find, free_port
from pydicom.errors import InvalidDicomError

AE_TITLE = "PUBLISHER"


@dataclass
class Publisher:
    """A storescp that keeps what it gets below `folder`."""

    program: Program
    folder: Path
    port: int
    _told: set[tuple[str, int]] = field(default_factory=set)

    def news(self) -> str:
        """Return what has come since the last time this was asked, "" for nothing; half an object is not told."""
        came = Counter[str]()
        for file in self.folder.iterdir():
            mark = (file.name, file.stat().st_mtime_ns)
            if mark in self._told:
                continue
            try:
                came[str(pydicom.dcmread(file, stop_before_pixels=True).get("AccessionNumber", "-"))] += 1
            except (InvalidDicomError, EOFError):
                continue
            self._told.add(mark)
        return ", ".join(f"{count} images of {accession}" for accession, count in sorted(came.items()))


def start(folder: Path, log: Path) -> Publisher:
    """Start it at a free port."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    port = free_port()
    argv = [find("storescp"), "-v", "-aet", AE_TITLE, "+xa", "-od", str(folder), str(port)]
    return Publisher(Program("the CD publisher", argv, log), folder, port)
