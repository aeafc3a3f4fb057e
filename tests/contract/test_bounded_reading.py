"""Whatever a peer sent is inflated in one place, within bounds, and read by pydicom through that place only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pipeline"
INFLATES = {"decompress", "decompressobj", "GzipFile", "BZ2Decompressor", "LZMADecompressor"}
READS = {"dcmread", "read_file", "read_partial", "DicomDir", "FileSet", "pixel_array", "iter_pixels"}
LIBRARIES = {"zlib", "gzip", "bz2", "lzma"}
DEFLATION, READING = "dicom/reading.py", "dicom/pydicom_reading.py"
NOT_DEFLATED = {"disc/pages/thumbnails.py"}  # pixel_array of a file: it never inflates, and fails instead


def imported(source: str) -> set[tuple[str, str]]:
    """Return (module, name) of everything a module imports, and (module, attribute) of what it uses of one."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", name.name) for name in node.names}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            found.add((ast.unparse(node.value), node.attr))
    return found


def offences(path: str, source: str) -> list[str]:
    found = imported(source)
    inflates = [f"{path}: {module}.{name}" for module, name in found if module in LIBRARIES and name in INFLATES]
    reads = [
        f"{path}: {module}.{name}" for module, name in found if module.startswith("pydicom") and name in READS
    ]
    if path == DEFLATION:
        inflates = []
    if path == READING:
        reads = []
    if path in NOT_DEFLATED:
        reads = [one for one in reads if not one.endswith((".iter_pixels", ".pixel_array"))]
    return inflates + reads


def test_nothing_else_inflates_or_has_pydicom_read_files() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    found = [offences(str(file.relative_to(PACKAGE)), file.read_text(encoding="utf-8")) for file in files]
    assert len(files) > 100
    assert [one for some in found for one in some] == []


@pytest.mark.parametrize(
    "source",
    [
        "from pydicom import dcmread",
        "from pydicom.filereader import read_partial",
        "import pydicom\npydicom.dcmread(path)",
        "import pydicom\npydicom.filereader.dcmread(path)",
        "import zlib\nzlib.decompress(data, -15)",
        "from zlib import decompressobj",
        "import gzip\ngzip.GzipFile(path)",
    ],
)
def test_another_way_would_be_found(source) -> None:
    assert offences("orders/reception_progress.py", source)
