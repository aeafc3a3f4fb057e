"""JPEG 2000, classic and high-throughput, over real objects.

Equal pixels in decoders not ours, equal attributes, or a reason.
"""

import io
import subprocess
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from support.machine.dicom_programs import program

from pipeline.dicom.encodings import Encoded, NotEncoded, htj2k, j2k
from pipeline.dicom.pixels.encapsulation import attach

REASONS = (  # every reason real objects give, by how it begins
    "1-bit pixels",
    "32-bit pixels",
    "BitsAllocated is missing or absurd",
    "YBR_FULL_422 of 3 samples per pixel is not carried",
    "already encapsulated: ",
    "an overlay lies in the unused bits of the pixels",
    "big endian Pixel Data of 16-bit samples in VR OB",
    "bits outside Bits Stored are in use",
    "floating point pixels",
    "no Pixel Data",
    "no transfer syntax is given",
    "Pixel Data is ",
    "unknown transfer syntax ",
)
AFTER_THE_END = {"derived_trailing_garbage.dcm", "derived_trailing_zero_padding.dcm"}  # intake's question
OURS = {0x0099, 0x7FE0}
TURNED = {ImplicitVRLittleEndian, ExplicitVRBigEndian}


@dataclass(frozen=True)
class Account:
    """What became of one file: encoded, or the reason."""

    path: Path
    reason: str
    encoded: Encoded | None = None

    @property
    def before(self) -> Dataset:
        return pydicom.dcmread(self.path)

    def file(self) -> bytes:
        file = io.BytesIO()
        pydicom.dcmwrite(file, attach(split(self.path)[0], self.encoded), enforce_file_format=True)
        return file.getvalue()

    @property
    def after(self) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.file()))


def split(path: Path) -> tuple[Dataset, bytes, str | None]:
    """Return header, Pixel Data and its VR as they stand in the file."""
    header = pydicom.dcmread(path)
    if "PixelData" not in header:
        return header, b"", None
    element = header.get_item("PixelData")
    del header.PixelData
    return header, element.value or b"", element.VR


def account_of(path: Path, codec: ModuleType) -> Account | None:
    try:
        header, pixels, vr = split(path)
    except (InvalidDicomError, OSError, ValueError, KeyError):
        return None  # not DICOM
    reason = codec.why_not(header, len(pixels), vr)
    if reason is None:
        try:
            return Account(path, "", codec.encode(header, pixels, vr))
        except NotEncoded as said:
            reason = str(said)
    return Account(path, reason)


@pytest.fixture(scope="module", params=[j2k, htj2k], ids=["j2k", "htj2k"])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


@pytest.fixture(scope="module")
def accounts(corpus: Path, codec: ModuleType) -> list[Account]:
    files = sorted(f for f in corpus.rglob("*") if f.is_file() and f.name not in AFTER_THE_END)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what real objects do to deserve them is not the question here
        return [account for account in map(partial(account_of, codec=codec), files) if account is not None]


@pytest.fixture(scope="module")
def encoded(accounts: list[Account]) -> list[Account]:
    return [account for account in accounts if account.encoded]


def one_of_each_kind(encoded: list[Account]) -> list[Account]:
    """Return one instance of every layout, transfer syntax and storage class."""
    kinds: dict[tuple[object, ...], Account] = {}
    for account in encoded:
        ds = account.before
        layout = [ds.get(k) for k in ("PhotometricInterpretation", "BitsStored", "PixelRepresentation")]
        more = (ds.file_meta.TransferSyntaxUID, ds.get("PlanarConfiguration"), "NumberOfFrames" in ds)
        kinds.setdefault((*layout, *more), account)
        kinds.setdefault((ds.get("SOPClassUID"),), account)
    return list({account.path: account for account in kinds.values()}.values())


pytestmark = pytest.mark.filterwarnings("ignore")  # real objects give pydicom much to warn of


def test_every_instance_is_encoded_or_says_why(accounts, encoded, capsys):
    table = Counter(account.reason or "encoded" for account in accounts)
    with capsys.disabled():
        print("", *(f"{count:5} {reason}" for reason, count in table.most_common()), sep="\n")

    strange = {reason for reason in table if not reason.startswith((*REASONS, "encoded"))}
    assert not strange
    assert len(encoded) >= 25
    assert table["no Pixel Data"] >= 5


def test_a_viewer_sees_the_pixels_of_every_encoded_instance(encoded):
    for account in encoded:
        before, after = (pixel_array(ds, raw=True) for ds in (account.before, account.after))
        assert before.shape == after.shape, account.path
        assert np.array_equal(before, after), account.path
        assert before.dtype.newbyteorder("=") == after.dtype, account.path


def test_no_value_changes_but_those_of_the_pixels(encoded):
    for account in encoded:
        if account.before.file_meta.TransferSyntaxUID in TURNED:
            continue  # compared with DCMTK's below
        before, after = values(account.before), values(account.after)
        assert before.keys() == after.keys(), account.path
        assert not [tag for tag in before if before[tag] != after[tag]], account.path


def test_the_decoder_of_the_encoders_library_sees_the_same_pixels(encoded, codec):
    decode = {j2k: imagecodecs.jpeg2k_decode, htj2k: imagecodecs.htj2k_decode}[codec]
    for account in encoded:
        received = pixel_array(account.before, raw=True).reshape(len(account.encoded.frames), -1)
        for frame, expected in zip(account.encoded.frames, received, strict=True):
            decoded = decode(frame)
            if decoded.ndim == 3 and decoded.shape[0] == 3 and account.before.Columns != 3:
                decoded = np.moveaxis(decoded, 0, -1)  # without a colour transform OpenJPH yields planes
            assert np.array_equal(decoded.ravel(), expected), account.path


@pytest.mark.programs
@pytest.mark.parametrize("codec", [j2k], ids=["j2k"], indirect=True)  # GDCM of Debian 12 does not know the other
def test_gdcm_sees_the_same_pixels(encoded, tmp_path):
    seen = 0
    for account in one_of_each_kind(encoded):
        (tmp_path / "in.dcm").write_bytes(account.file())
        refused, _ = run("gdcmconv", "--raw", tmp_path / "in.dcm", tmp_path / "out.dcm")
        if refused:
            assert run("gdcmconv", "--raw", account.path, tmp_path / "out.dcm")[0], account.path  # as the original
            continue
        seen += 1

        before, after = account.before, pydicom.dcmread(tmp_path / "out.dcm")
        if after.get("PlanarConfiguration") != before.get("PlanarConfiguration"):
            assert after.PlanarConfiguration == 0
        assert np.array_equal(pixel_array(before, raw=True), pixel_array(after, raw=True)), account.path
    assert seen >= 10


@pytest.mark.programs
def test_dcmtk_turns_implicit_and_big_endian_values_into_the_same_bytes(encoded, tmp_path):
    turned = [account for account in encoded if account.before.file_meta.TransferSyntaxUID in TURNED]
    assert turned
    for account in turned:
        failed, said = run("dcmconv", "+te", account.path, tmp_path / "out.dcm")
        assert not failed, said

        dcmtk, ours = values(pydicom.dcmread(tmp_path / "out.dcm")), values(account.after)
        assert dcmtk.keys() == ours.keys(), account.path
        different = {tag: (dcmtk[tag], ours[tag]) for tag in dcmtk if dcmtk[tag] != ours[tag]}
        assert not different, account.path


@pytest.mark.programs
@pytest.mark.parametrize("codec", [j2k], ids=["j2k"], indirect=True)  # nor does its dciodvfy
def test_dciodvfy_finds_no_error_that_was_not_there_before(encoded, tmp_path):
    for account in one_of_each_kind(encoded):
        if account.before.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            continue  # dciodvfy misses errors there that it finds in the same data set inflated
        (tmp_path / "after.dcm").write_bytes(account.file())

        new = errors_of(tmp_path / "after.dcm") - errors_of(account.path)

        assert not new, account.path


def values(dataset: Dataset, path: tuple[int, ...] = ()) -> dict[tuple[int, ...], bytes]:
    """Return every value's bytes by its path, but for the pixels and what follows them."""
    found: dict[tuple[int, ...], bytes] = {}
    for tag in dataset.keys():  # noqa: SIM118 - values stay raw
        element = dataset.get_item(tag)
        if not tag.element or (not path and (tag.group in OURS or tag in {0x00280004, 0x00280006})):
            continue
        if element.VR == "SQ":
            for number, item in enumerate(dataset[tag].value):
                found |= values(item, (*path, tag, number))
        else:
            value = element.value or b""  # pydicom has parsed what is empty, and the character set
            found[*path, tag] = value.rstrip(b" \0") if isinstance(value, bytes) else repr(value).encode()
    return found


def errors_of(file: Path) -> Counter[str]:
    _, said = run("dciodvfy", file)
    return Counter(line for line in said.splitlines() if line.startswith("Error"))


def run(name: str, *arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and what was said on standard error."""
    done = subprocess.run(
        (program(name), *arguments), capture_output=True, text=True, errors="replace", timeout=60, check=False
    )
    return done.returncode, done.stderr
