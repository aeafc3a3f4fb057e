"""Encode then decode is the identity, whatever the layout."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.studies.native_images import BIG, EXPLICIT, IMPLICIT, Native, encoded, seen

LAYOUTS = st.one_of(
    st.builds(
        dict,
        stored=st.integers(9, 16),
        allocated=st.just(16),
        signed=st.booleans(),
        photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    ),
    st.builds(dict, stored=st.integers(1, 8), allocated=st.just(8), signed=st.booleans()),
    st.builds(
        dict, stored=st.sampled_from([8, 16]), allocated=st.just(16), photometric=st.just("PALETTE COLOR")
    ).map(lambda layout: layout | {"allocated": layout["stored"]}),
    st.builds(
        dict,
        stored=st.sampled_from([8, 12, 16]),
        samples=st.just(3),
        planar=st.integers(0, 1),
        photometric=st.sampled_from(["RGB", "YBR_FULL"]),
    ).map(lambda layout: layout | {"allocated": 8 if layout["stored"] == 8 else 16}),
)
SIDE = st.one_of(st.integers(1, 5), st.integers(1, 70))
ENCODINGS = st.sampled_from([(EXPLICIT, "OW"), (EXPLICIT, "OB"), (IMPLICIT, "OW"), (BIG, "OW"), (BIG, "OB")])


# pydicom compares lengths of tiny pictures and wonders; the pixels are compared below.
@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data matches")
@settings(max_examples=150, deadline=None)
@given(
    layout=LAYOUTS,
    encoding=ENCODINGS,
    sides=st.tuples(SIDE, SIDE),
    frames=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_a_viewer_decodes_is_what_the_modality_sent(layout, encoding, sides, frames, seed):
    syntax, vr = encoding
    if layout["allocated"] == 16:
        vr = "OW"
    native = Native(*sides, frames=frames, syntax=syntax, vr=vr, seed=seed, **layout)

    result, viewed = encoded(native)

    assert viewed.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.90"
    assert np.array_equal(seen(viewed, native), native.array)
    assert len(result.frames) == frames
    assert result.pixel_length == native.array.nbytes
    if not (syntax == BIG and native.array.nbytes % 2):
        assert result.pixel_md5 == hashlib.md5(native.pixels[: native.array.nbytes]).hexdigest()
