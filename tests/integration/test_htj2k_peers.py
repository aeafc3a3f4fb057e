"""encode = "htj2k" against who gets it: real peers of both opinions, an archive, discs; and what `check` says."""

import imagecodecs
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import HTJ2KLossless, generate_uid
from pynetdicom import AE, evt
from support.machine.dicom_programs import orthanc, storescp
from support.peers.storage_peer import as_item, deliver, destination
from support.peers.stow_outcomes import Collected

from pipeline.destinations import from_table
from pipeline.dicom.decoding import DecodingTask, decode
from pipeline.dicom.encodings import htj2k
from pipeline.dicom.pixels.encapsulation import attach
from pipeline.model import ReceiptState

pytestmark = pytest.mark.programs
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def item(tmp_path):
    """Return a real CT slice, encoded."""
    header = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    pixels = header.PixelData
    del header.PixelData
    path = tmp_path / "encoded.dcm"
    pydicom.dcmwrite(path, attach(header, htj2k.encode(header, pixels, "OW")), enforce_file_format=True)
    assert as_item(path).transfer_syntax_uid == HTJ2KLossless
    return as_item(path)


def original():
    return pixel_array(get_testdata_file("CT_small.dcm"), raw=True)


@pytest.fixture
def modern_peer():
    """Yield the port of a peer that takes HTJ2K, and what it has received: transfer syntax, data set."""
    received = []

    def store(event):
        received.append((event.context.transfer_syntax, event.dataset))
        return 0

    entity = AE("MODERN")
    for uid in (
        "1.1",
        "5.1.4.1.1.2",
        "5.1.4.1.1.4",
        "5.1.4.1.1.1",
        "5.1.4.1.1.1.1",
        "5.1.4.1.1.6.1",
        "5.1.4.1.1.7",
    ):
        entity.add_supported_context(f"1.2.840.10008.{uid}", [HTJ2KLossless, EXPLICIT, "1.2.840.10008.1.2"])
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    yield server.socket.getsockname()[1], received
    server.shutdown()


def test_a_peer_that_takes_it_gets_the_very_frames(item, modern_peer):
    port, received = modern_peer

    receipts, _, error = deliver(port, [item])

    assert error is None
    assert [one.state for one in receipts.values()] == [ReceiptState.STORED]
    [(syntax, data_set)] = received
    assert syntax == HTJ2KLossless
    [frame] = generate_frames(data_set.PixelData, number_of_frames=1)
    assert (imagecodecs.htj2k_decode(frame) == original()).all()


def test_a_peer_that_does_not_gets_the_pixels_decoded(item, tmp_path):
    with storescp(tmp_path / "in", "+B") as port:
        receipts, _, error = deliver(port, [item])

    assert error is None
    [receipt] = receipts.values()
    assert receipt.state is ReceiptState.STORED
    assert "the peer does not take" in receipt.message
    [there] = (pydicom.dcmread(path) for path in (tmp_path / "in").iterdir())
    assert there.file_meta.TransferSyntaxUID == EXPLICIT
    assert (pixel_array(there, raw=True) == original()).all()


def test_check_says_whether_a_peer_takes_it(modern_peer, tmp_path):
    assert list(destination(modern_peer[0], encode="htj2k").notes()) == [
        'encode = "htj2k": it takes High-Throughput JPEG 2000 Image Compression (Lossless Only)'
    ]
    with storescp(tmp_path / "in") as port:
        [note] = destination(port, encode="htj2k").notes()
        assert "does not take High-Throughput JPEG 2000" in note
        assert "CT, MR" in note
        assert "it takes JPEG 2000" in next(iter(destination(port, encode="j2k").notes()))
        assert list(destination(port).notes()) == []
    [note] = destination(port, encode="htj2k").notes()
    assert "is not known" in note


def test_orthanc_stores_it_lists_it_and_gives_the_same_bytes_back(item, tmp_path):
    with orthanc(tmp_path / "orthanc") as archive:
        stow = from_table({"name": "archive", "kind": "stow", "url": archive.studies, "encode": "htj2k"})
        assert any("lists nothing yet that could be asked for in it" in note for note in stow.notes())

        done = Collected(stow, [item])

        assert done.error is None
        assert done.all_verified([item])
        assert archive.download_all()[item.key.sop_instance_uid] == item.path.read_bytes()
        assert any('encode = "htj2k"' in note for note in stow.notes())


def test_what_is_encoded_here_is_decoded_here_for_a_disc(item, tmp_path):
    decoded = decode(DecodingTask(item.path, tmp_path / "decoded.dcm"))

    assert decoded.transfer_syntax_before == HTJ2KLossless
    assert not decoded.is_lossy
    assert (pixel_array(decoded.path, raw=True) == original()).all()
