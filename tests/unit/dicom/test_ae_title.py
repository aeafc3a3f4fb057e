"""One reading of an AE title: of the 16 bytes of a request, and of what storescp has written into a file."""

import pytest

from pipeline.dicom.ae_title import ae_title


@pytest.mark.parametrize(
    ("value", "title"),
    [
        (b"CT 1            ", "CT 1"),
        (b"  CT1           ", "CT1"),
        (b"CT1".ljust(16, b"\0"), "CT1"),
        (b"CT1\0WAS HERE    ", "CT1"),
        (b"CT1 \0           ", "CT1"),
        (b"CT1\r\n           ", "CT1"),
        (b"CT1\r\nELSE       ", "CT1"),
        (b"CT1\tELSE         ", "CT1"),
        (b"\tCT1             ", "CT1"),
        (b"CT1\x1b[31m       ", "CT1"),
        (b"CT1\x7f            ", "CT1"),
        ("MÜLLER".encode("latin-1").ljust(16), "MÜLLER"),
        ("MÜLLER".encode().ljust(15), "MÜLLER"),
        (b"CT\x85\xa01        ", "CT??1"),
        (b"$(id)`;|&\"'\\    ", "$(id)`;|&\"'\\"),
    ],
)
def test_a_title_ends_where_its_sender_meant_it_to_end(value, title):
    assert ae_title(value) == title


@pytest.mark.parametrize("value", [b"", b" " * 16, b"\0" * 16, b"\0CT1", b"\r\n".ljust(16), b"\x01CT1", b"\t \0"])
def test_what_says_nothing_is_no_title(value):
    assert ae_title(value) == ""
