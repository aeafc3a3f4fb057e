"""Every real object to a peer that takes nothing compressed: stored with what it was, or refused with a reason."""

from pathlib import Path

import pytest
from support.machine.dicom_programs import free_port, program, running
from support.peers.storage_peer import data_set_bytes, deliver

from pipeline.line.identify import read
from pipeline.model import Item

pytestmark = pytest.mark.programs

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
REFUSED = {  # by the end of their names
    "labelmap.dcm": "this SOP class",
    "palette_color.dcm": "this SOP class",
    "private_sop_class.dcm": "this SOP class",
    "unknown_transfer_syntax.dcm": "cannot be decoded here",
    "deflate.dcm": "cannot be decoded here",  # of single frames, which is another thing than a deflated data set
    "embedded-sequence-delimiter.dcm": "cannot be decoded",
    "liver_j2k.dcm": "1 bits",
    "aligned_j2k.dcm": "1 bits",
    "liver_rle.dcm": "1 bits",
    "aligned_rle.dcm": "1 bits",
}


def items_of(corpus: Path, scratch: Path) -> dict[str, Item]:
    """Return what intake would let through, each SOP Instance UID once."""
    items: dict[str, Item] = {}
    for path in sorted(path for path in corpus.rglob("*") if path.is_file() and path.stat().st_size):
        found = read(path, scratch)
        if found.problem is None and found.key and found.key.sop_instance_uid not in items:
            items[found.key.sop_instance_uid] = Item(
                key=found.key,
                path=path,
                sha256=found.received_sha256,
                size=found.size,
                sop_class_uid=str(found.sop_class_uid),
                transfer_syntax_uid=str(found.transfer_syntax_uid),
                calling_ae_title="",
                called_ae_title="",
                institution=None,
            )
    return items


def test_every_real_object_arrives_or_says_why_not(corpus, tmp_path):
    items = items_of(corpus, tmp_path)
    folder, port = tmp_path / "in", free_port()
    folder.mkdir()
    with running([program("storescp"), "+B", "+uf", "-od", folder, str(port)], log=tmp_path / "log", port=port):
        receipts, _, error = deliver(port, list(items.values()), response_timeout="60s")
    assert error is None
    assert receipts.keys() == items.keys()
    refused = {items[uid].path.name: r.message for uid, r in receipts.items() if r.state.value == "refused"}
    for name, message in refused.items():
        expected = [words for end, words in REFUSED.items() if name.endswith(end)]
        assert expected, f"{name}: {message}"
        assert any(words in message for words in expected), f"{name}: {message}"
    found = [read(path) for path in folder.iterdir()]
    arrived = {one.key.sop_instance_uid: folder / one.file for one in found if one.key}
    assert len(arrived) == len(items) - len(refused)
    assert len(found) == len(arrived)
    unchanged = 0
    for uid, path in arrived.items():
        if items[uid].transfer_syntax_uid in NATIVE and not receipts[uid].message:
            unchanged += 1
            content = path.read_bytes()
            assert content[144 + int.from_bytes(content[140:144], "little") :] == data_set_bytes(items[uid]), path
    assert unchanged >= len(arrived) / 2
