"""Our private block keeps out of everybody else's."""

import pytest
from pydicom import Dataset

from pipeline.dicom.encodings import NotEncoded
from pipeline.dicom.pixels.encapsulation import BLOCKS, GROUP, write_private_block

LENGTH = (0x01, "UL", 524288)


def test_the_first_block_is_ours_where_nobody_has_one():
    ds = Dataset()

    write_private_block(ds, [LENGTH])

    assert ds[GROUP, 0x0010].value == "STORESTOW 1.0"
    assert ds[GROUP, 0x1001].value == 524288


def test_the_block_of_another_creator_stays_his():
    ds = Dataset()
    ds.add_new((GROUP, 0x0010), "LO", "SOMEBODY")
    ds.add_new((GROUP, 0x1001), "SH", "his")

    write_private_block(ds, [LENGTH])

    assert ds[GROUP, 0x1001].value == "his"
    assert ds[GROUP, 0x0011].value == "STORESTOW 1.0"
    assert ds[GROUP, 0x1101].value == 524288


def test_elements_whose_creator_was_lost_are_not_adopted():
    ds = Dataset()
    ds.add_new((GROUP, 0x1002), "UN", b"whose?")

    write_private_block(ds, [LENGTH])

    assert ds[GROUP, 0x1002].value == b"whose?"
    assert ds[GROUP, 0x0011].value == "STORESTOW 1.0"


def test_an_instance_that_comes_back_has_one_block_not_two():
    ds = Dataset()
    ds.add_new((GROUP, 0x0010), "LO", "SOMEBODY")
    write_private_block(ds, [LENGTH, (0x05, "US", 1)])

    write_private_block(ds, [(0x01, "UL", 7)])

    assert ds[GROUP, 0x1101].value == 7
    assert (GROUP, 0x1105) not in ds
    assert (GROUP, 0x0012) not in ds


def test_where_every_block_is_taken_the_instance_passes_through():
    ds = Dataset()
    for block in BLOCKS:
        ds.add_new((GROUP, block), "LO", f"SOMEBODY {block}")

    with pytest.raises(NotEncoded, match="no private block is free"):
        write_private_block(ds, [LENGTH])
