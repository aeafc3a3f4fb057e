"""kind = "cstore" against real peers: DCMTK's storescp in its moods, Orthanc, and SCPs made of pynetdicom."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import StoragePresentationContexts
from support.machine.dicom_programs import free_port, orthanc, storescp
from support.peers.storage_peer import as_item, data_set_bytes, deliver, destination, states
from support.studies.small_studies import make_item, make_study, uids_of
from support.studies.storage_classes import CLASSES, build

from pipeline.dicom.walk import walk
from pipeline.errors import PeerUnavailable, Permanent, Transient

pytestmark = pytest.mark.programs

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
J2K, RLE, JPEG, DEFLATED = (f"1.2.840.10008.1.2{n}" for n in (".4.90", ".5", ".4.51", ".1.99"))
SOURCES = {
    EXPLICIT: "CT_small.dcm",
    IMPLICIT: "MR_small_implicit.dcm",
    "1.2.840.10008.1.2.2": "MR_small_bigendian.dcm",
    J2K: "MR_small_jp2klossless.dcm",
    RLE: "MR_small_RLE.dcm",
    JPEG: "JPGExtended.dcm",
    DEFLATED: "image_dfl.dcm",
}


def one_of_each(folder: Path):
    """Return a real instance in each transfer syntax, each under a UID of its own."""
    items = {}
    for syntax, name in SOURCES.items():
        data_set = pydicom.dcmread(get_testdata_file(name))
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        path = folder / f"{syntax}.dcm"
        data_set.save_as(path, enforce_file_format=True)
        items[syntax] = as_item(path)
        assert items[syntax].transfer_syntax_uid == syntax
    return items


def read(folder: Path):
    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    return {one.SOPInstanceUID: one for one in found}


MOODS = {
    "everything": (("+xa",), {syntax: syntax for syntax in SOURCES}),
    "nothing compressed": ((), {**dict.fromkeys((J2K, RLE, JPEG, DEFLATED), EXPLICIT)}),
    "the default transfer syntax only": (("+xi",), dict.fromkeys(SOURCES, IMPLICIT)),
    "JPEG 2000, too": (("+xv",), {**dict.fromkeys((RLE, JPEG, DEFLATED), EXPLICIT)}),
}


@pytest.mark.parametrize(("options", "arrive_as"), MOODS.values(), ids=MOODS)
def test_each_instance_arrives_in_the_best_encoding_the_peer_takes_with_its_pixels(tmp_path, options, arrive_as):
    items = one_of_each(tmp_path)
    with _storescp(tmp_path / "in", *options) as port:
        receipts, _, error = deliver(port, list(items.values()), response_timeout="30s")
    assert error is None
    assert set(states(receipts)) == {"stored"}
    arrived = read(tmp_path / "in")
    assert len(arrived) == len(items)
    for syntax, item in items.items():
        there = arrived[item.key.sop_instance_uid]
        before = pydicom.dcmread(item.path)
        expected = arrive_as.get(syntax, syntax)
        assert there.file_meta.TransferSyntaxUID == expected, syntax
        assert (there.pixel_array == before.pixel_array).all() if syntax != JPEG else there.PixelData
        assert there.PatientName == before.PatientName
        was_decoded = "the peer does not take" in receipts[item.key.sop_instance_uid].message
        assert was_decoded == (expected != syntax)


def _storescp(folder: Path, *options: str):
    """Run a storescp that takes only what `options` say, and keeps the bytes it gets."""
    from contextlib import contextmanager

    from support.machine.dicom_programs import program, running

    @contextmanager
    def run():
        folder.mkdir()
        port = free_port()
        argv = [program("storescp"), "+B", "+uf", "-od", folder, *options, str(port)]
        with running(argv, log=folder.with_suffix(".log"), port=port):
            yield port

    return run()


def test_the_bytes_that_arrive_are_the_bytes_of_the_pinned_file(tmp_path):
    items = list(one_of_each(tmp_path).values())
    with _storescp(tmp_path / "in", "+xa") as port:
        deliver(port, items, response_timeout="30s")
    arrived = {}
    for path in (tmp_path / "in").iterdir():
        content = path.read_bytes()
        at = 144 + int.from_bytes(content[140:144], "little")  # after group 0002 by its length
        arrived[pydicom.dcmread(path).SOPInstanceUID] = content[at:]
    for item in items:
        content = item.path.read_bytes()
        at = 144 + int.from_bytes(content[140:144], "little")
        assert arrived[item.key.sop_instance_uid] == content[at:], item.transfer_syntax_uid


def test_orthanc_stores_every_one_of_the_fourteen_classes_and_gives_it_back_as_it_was_sent(tmp_path):
    items = {name: as_item(build(name, tmp_path / "sent")) for name in CLASSES}
    assert {item.sop_class_uid for item in items.values()} == set(CLASSES.values())
    with orthanc(tmp_path / "orthanc") as archive:
        assert list(destination(archive.dicom_port, response_timeout="30s").problems()) == []
        receipts, _, error = deliver(archive.dicom_port, list(items.values()), response_timeout="30s")
        stored = archive.download_all()
    assert error is None
    for name, item in items.items():
        receipt = receipts[item.key.sop_instance_uid]
        assert (receipt.state.value, receipt.code, receipt.verified) == ("stored", "0x0000", True), name
        there = stored[item.key.sop_instance_uid]
        assert there[walk(there).data_set :] == data_set_bytes(item), name


def test_a_hundred_and_forty_private_classes_arrive_over_several_associations(tmp_path):
    items = [replace(make_item(tmp_path, n), sop_class_uid=f"1.2.826.0.1.3680043.9.7777.{n}") for n in range(140)]
    for item in items:  # storescp compares command and data set
        data_set = pydicom.dcmread(item.path)
        data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = item.sop_class_uid
        data_set.save_as(item.path)
    items = [as_item(item.path) for item in items]
    with storescp(tmp_path / "in") as port:
        receipts, _, error = deliver(port, items, response_timeout="30s")
    assert error is None
    assert set(states(receipts)) == {"stored"}
    assert len(list((tmp_path / "in").iterdir())) == 140


def test_a_class_the_peer_does_not_know_is_refused_by_name_and_the_others_go(tmp_path):
    private = replace(make_item(tmp_path, 1), sop_class_uid="1.2.826.0.1.3680043.9.7777.1")
    ct = make_item(tmp_path, 2)
    with _storescp(tmp_path / "in", "+xa") as port:  # without -pm
        receipts, _, error = deliver(port, [private, ct])
    assert error is None
    assert states(receipts) == ["refused", "stored"]
    assert "1.2.826.0.1.3680043.9.7777.1" in receipts[private.key.sop_instance_uid].message


# --- storescp and Orthanc in a bad mood --------------------------------------------------------------


def test_a_refused_association_is_final(tmp_path):
    with _storescp(tmp_path / "in", "--refuse") as port:
        receipts, _, error = deliver(port, make_study(tmp_path, 1))
        [problem] = destination(port).problems()
    assert isinstance(error, Permanent)
    assert receipts == {}
    assert "rejects the association for good" in problem


@pytest.mark.parametrize("mood", ["--abort-after", "--abort-during"])
def test_a_peer_that_aborts_at_every_instance_is_left_alone_and_nothing_is_lost(tmp_path, mood):
    with _storescp(tmp_path / "in", mood, "+xa") as port:
        receipts, _, error = deliver(port, make_study(tmp_path, 2, padding=500_000))
    assert isinstance(error, Transient)
    assert set(states(receipts)) == {"pending"}


def test_a_slow_peer_is_waited_for_within_the_time_it_has(tmp_path):
    with _storescp(tmp_path / "in", "--sleep-during", "1") as port:
        patient, _, _ = deliver(port, make_study(tmp_path, 1), response_timeout="5s")
        impatient, _, error = deliver(port, make_study(tmp_path, 1), response_timeout="300ms")
    assert states(patient) == ["stored"]
    assert states(impatient) == ["pending"]
    assert isinstance(error, Transient)


def test_orthanc_that_goes_by_another_name_says_so(tmp_path):
    with orthanc(tmp_path / "orthanc", DicomCheckCalledAet=True) as archive:
        _, _, error = deliver(archive.dicom_port, make_study(tmp_path, 1))
        [problem] = destination(archive.dicom_port).problems()
        assert list(destination(archive.dicom_port, ae_title="ORTHANC").problems()) == []
    assert isinstance(error, Permanent)
    assert "does not go by that AE title" in problem


def test_orthanc_that_does_not_know_us_says_so_too(tmp_path):
    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowStore=False, DicomAlwaysAllowEcho=False) as archive:
        receipts, _, error = deliver(archive.dicom_port, make_study(tmp_path, 1))
        [problem] = destination(archive.dicom_port).problems()
    assert isinstance(error, Permanent)
    assert receipts == {}
    assert "does not know our AE title" in problem


def test_orthanc_with_a_full_storage_is_out_of_resources(tmp_path):
    with orthanc(tmp_path / "orthanc", MaximumStorageSize=1, MaximumStorageMode="Reject") as archive:
        receipts, _, error = deliver(archive.dicom_port, make_study(tmp_path, 3, padding=900_000))
    assert states(receipts) == ["stored", "pending", "pending"]
    assert [receipt.code for receipt in receipts.values()] == ["0x0000", "0xA700", "0xA700"]
    assert isinstance(error, Transient)


# --- pynetdicom: another implementation of the same standard -------------------------------------------


class Scp:
    """An SCP of pynetdicom's whose handler returns a status, or aborts."""

    def __init__(self, handle, **settings):
        self._ae = AE("PUBLISHER")
        for name, value in settings.items():
            setattr(self._ae, name, value)
        for context in StoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax, [EXPLICIT, IMPLICIT])
        self.port = free_port()
        self._handlers = [(evt.EVT_C_STORE, handle)]

    def __enter__(self):
        self._server = self._ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=self._handlers)
        return self

    def __exit__(self, *_):
        self._server.shutdown()


def test_pynetdicom_is_understood_instance_by_instance(tmp_path):
    items = make_study(tmp_path, 5, padding=200_000)
    said = dict(zip(uids_of(items), (0x0000, 0xB006, 0xA900, 0x0124, 0xB007), strict=True))
    got = {}

    def handle(event):
        got[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return said[event.request.AffectedSOPInstanceUID]

    with Scp(handle) as scp:
        receipts, _, error = deliver(scp.port, items, response_timeout="20s")
    assert error is None
    assert states(receipts) == ["stored", "warned", "refused", "refused", "warned"]
    assert [receipt.verified for receipt in receipts.values()] == [True, True, False, False, True]
    assert got == {item.key.sop_instance_uid: data_set_bytes(item) for item in items}


def test_pynetdicom_that_aborts_half_way_gets_the_rest_over_a_new_association(tmp_path):
    items = make_study(tmp_path, 4)
    seen = []

    def handle(event):
        seen.append(event.request.AffectedSOPInstanceUID)
        if len(seen) == 2:
            event.assoc.abort()
        return 0

    with Scp(handle) as scp:
        receipts, _, error = deliver(scp.port, items, response_timeout="20s")
    assert error is None
    assert states(receipts) == ["stored"] * 4
    assert seen == [*uids_of(items), uids_of(items)[1]]


def test_pynetdicom_that_wants_other_names_rejects_for_good_and_one_that_is_busy_for_now(tmp_path):
    with Scp(lambda _event: 0, require_called_aet=True, require_calling_aet=["SOMEBODY"]) as scp:
        _, _, error = deliver(scp.port, make_study(tmp_path, 1))
        assert isinstance(error, Permanent)
        assert "does not know our AE title" in str(error)
    with Scp(lambda _event: 0, maximum_associations=1) as scp:
        somebody = AE("OTHER")
        somebody.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
        open_one = somebody.associate("127.0.0.1", scp.port)
        _, _, error = deliver(scp.port, make_study(tmp_path, 1))
        open_one.release()
        assert isinstance(error, PeerUnavailable)
        assert "local limit exceeded" in str(error)


def test_an_instance_of_any_size_costs_the_same_memory(tmp_path):
    items = [
        make_item(tmp_path, n, padding=padding) for n, padding in enumerate((150_000_000, 6_000_000, 6_000_000))
    ]
    with storescp(tmp_path / "in", "--ignore") as port:
        tracemalloc.start()
        receipts, _, _ = deliver(port, items, response_timeout="60s")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert set(states(receipts)) == {"stored"}
    assert peak < 24 << 20
