"""Every compressed real object, decoded by us and by DCMTK or GDCM: the same pixels, or a reason why not."""

import subprocess
import warnings
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest
from support.machine.dicom_programs import ENVIRONMENT, program

from pipeline.dicom.decoding import DecodingTask, NotDecoded, decode
from pipeline.dicom.part10 import Malformed
from pipeline.dicom.walk import walk

pytestmark = pytest.mark.programs


@pytest.fixture(autouse=True)
def _pydicom_may_warn():
    """pydicom warns of what real objects get wrong; in the pool nobody hears it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


DCMTK = {
    **dict.fromkeys(("4.50", "4.51", "4.57", "4.70"), "dcmdjpeg"),
    **dict.fromkeys(("4.80", "4.81"), "dcmdjpls"),
    "5": "dcmdrle",
}
GDCM = {"4.90", "4.91"}


def compressed(corpus: Path) -> list[tuple[Path, str]]:
    """Return the corpus's compressed instances with the end of their transfer syntax."""
    found = []
    for path in sorted(path for path in corpus.rglob("*") if path.is_file()):
        with suppress(Malformed):  # what the line would quarantine
            layout = walk(path.read_bytes())
            end = layout.transfer_syntax_uid.removeprefix("1.2.840.10008.1.2.")
            if (end in DCMTK or end in GDCM) and layout.pixels and layout.has_preamble:
                found.append((path, end))
    return found


def others(path: Path, end: str, target: Path) -> bytes | None:
    """Return the pixels as another toolkit decodes them, None where it does not."""
    argv = [program(DCMTK[end])] if end in DCMTK else [program("gdcmconv"), "--raw"]
    target.unlink(missing_ok=True)
    subprocess.run([*argv, path, target], env=ENVIRONMENT, capture_output=True, timeout=60, check=False)
    if not target.exists():
        return None
    pixels: bytes | None = pydicom.dcmread(target).get("PixelData")
    return pixels


EXPECTED = {
    "liver_j2k.dcm": "compressed pixels of one bit",
    "liver_nonbyte_aligned_j2k.dcm": "likewise",
    "J2K_pixelrep_mismatch.dcm": "its data set is signed, its codestream is not: GDCM takes the sign for a value",
}  # why the other toolkit is not followed


def test_whatever_another_toolkit_decodes_is_decoded_here_to_the_same_bytes(corpus, tmp_path):
    same, differ = [], {}
    for path, end in compressed(corpus):
        theirs = others(path, end, tmp_path / "theirs.dcm")
        try:
            ours, reason = our_own(path, tmp_path), "other pixels"
        except NotDecoded as error:
            ours, reason = None, str(error)
        if ours == theirs is not None:
            same.append(path.name)
        elif theirs is not None:
            differ[path.name.split("__")[-1]] = reason
    assert differ.keys() <= EXPECTED.keys(), differ
    assert len(same) >= 15  # of pydicom's bundled ones; 80 and more of the corpus


def our_own(path: Path, folder: Path) -> bytes:
    decode(DecodingTask(path, folder / "ours.dcm", folder))
    pixels: bytes = pydicom.dcmread(folder / "ours.dcm").PixelData
    return pixels
