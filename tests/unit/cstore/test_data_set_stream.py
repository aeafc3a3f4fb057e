"""A data set of odd length, which no message can carry, is sent with an even one, or not at all."""

import struct

import pytest
from support.peers.storage_peer import data_set_bytes, deliver, states, storage_peer
from support.studies.small_studies import make_item, pinned

from pipeline.cstore import send_instances
from pipeline.cstore.data_set_stream import padded


def odd(tmp_path, **attributes):
    """Return an item whose data set has lost its last byte, as some writers forget it, and the even one."""
    item = make_item(tmp_path, 1, **attributes)
    whole = data_set_bytes(item)
    content = item.path.read_bytes()
    at = content.rindex(struct.pack("<L", 12)) if attributes else content.rindex(struct.pack("<H", 12))
    size = 4 if attributes else 2
    content = content[:at] + (11).to_bytes(size, "little") + content[at + size : -1]
    item.path.write_bytes(content)
    return pinned(item.path, item.key), whole


@pytest.mark.parametrize("read_ahead", [0, 8 << 20])
def test_a_last_value_of_odd_length_leaves_as_its_writer_should_have_written_it(tmp_path, monkeypatch, read_ahead):
    monkeypatch.setattr(send_instances, "LARGEST_READ_AHEAD", read_ahead)
    item, whole = odd(tmp_path, BitsAllocated=8, PixelData=b"abcdefghijk\0")
    first = make_item(tmp_path, 2)
    with storage_peer() as peer:
        receipts, _, error = deliver(peer.port, [first, item])
    assert error is None
    assert peer.received[1].data == whole
    assert "odd length" in receipts[item.key.sop_instance_uid].message
    assert receipts[first.key.sop_instance_uid].message == ""


@pytest.mark.parametrize("vr", ["explicit", "implicit", "big"])
def test_an_odd_last_value_is_padded_in_every_encoding(vr):
    order = ">" if vr == "big" else "<"
    uid = struct.pack(order + "HH", 8, 0x18) + (
        struct.pack("<L", 4) if vr == "implicit" else b"UI" + struct.pack(order + "H", 4)
    )
    pixels = struct.pack(order + "HH", 0x7FE0, 0x10) + (b"" if vr == "implicit" else b"OB\0\0")
    meta_uid = {
        "explicit": b"1.2.840.10008.1.2.1\0",
        "implicit": b"1.2.840.10008.1.2\0",
        "big": b"1.2.840.10008.1.2.2\0",
    }[vr]
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(meta_uid)) + meta_uid
    start = 132 + len(meta)
    content = bytes(128) + b"DICM" + meta + uid + b"1.2\0" + pixels + struct.pack(order + "L", 3) + b"abc"
    assert padded(content, start, len(content)) == uid + b"1.2\0" + pixels + struct.pack(order + "L", 4) + b"abc\0"


def test_an_odd_text_at_the_end_gets_a_blank_and_an_odd_deflated_stream_a_zero():
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
    text = bytes(128) + b"DICM" + meta + b"\x10\x00\x20\x00LO\x03\x00abc"
    assert padded(text, 132 + len(meta), len(text)) == b"\x10\x00\x20\x00LO\x04\x00abc "
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99"
    deflated = bytes(128) + b"DICM" + meta + b"\xcb\x01\x07"
    assert padded(deflated, 132 + len(meta), len(deflated)) == b"\xcb\x01\x07\0"


def test_what_is_odd_for_another_reason_is_refused(tmp_path):
    item = make_item(tmp_path, 1, PatientComments="abcd")
    content = item.path.read_bytes()
    at = content.index(b"LT\x04\x00abcd")
    item.path.write_bytes(content[:at] + b"LT\x03\x00abc" + content[at + 8 :])
    with storage_peer() as peer:
        receipts, _, error = deliver(peer.port, [pinned(item.path, item.key), make_item(tmp_path, 2)])
    assert error is None
    assert states(receipts) == ["refused", "stored"]
    assert "odd number of bytes" in receipts[item.key.sop_instance_uid].message
    assert len(peer.requests) == 1
