"""A file read with its faults mended, or refused."""

import io
from pathlib import Path

import pydicom

from pipeline.dicom.reading import data_set_of
from pipeline.dicom.walk import walk
from pipeline.line.identify import read


def mended(content: bytes, folder: Path) -> tuple[pydicom.Dataset, set[tuple[int, str]]]:
    """Return the data set as another reader finds it, and what was made right; the copy is well-formed."""
    path = folder / "file"
    path.write_bytes(content)
    with data_set_of(path, folder) as (data, layout):
        again = walk(bytes(data))
        assert not again.is_odd
        assert path.read_bytes() == content
        whole = pydicom.dcmread(io.BytesIO(bytes(data)))
        whole.decode()
        return whole, {(mend.tag, mend.correction) for mend in layout.mends}


def refused(content: bytes, folder: Path) -> str:
    path = folder / "file"
    path.write_bytes(content)
    problem = read(path, folder).problem
    assert problem is not None
    return problem
