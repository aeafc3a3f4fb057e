"""A logo is a picture and nothing else: it can start nothing, and load nothing."""

import pytest

from pipeline.config.logo import LARGEST, read_logo
from pipeline.errors import Configuration

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9"/></svg>'


@pytest.mark.parametrize(("name", "content"), [("logo.png", PNG), ("logo.svg", SVG), ("LOGO.SVG", SVG)])
def test_a_picture_is_read_as_it_is(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_logo(tmp_path / name) == content


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("logo.gif", b"GIF89a", "neither .png nor .svg"),
        ("logo.png", SVG, "is no PNG file"),
        ("logo.png", PNG + b"\x00" * LARGEST, "more than 256 KiB"),
        ("logo.svg", PNG, "no well-formed SVG"),
        ("logo.svg", b"<html/>", "no SVG file"),
        ("logo.svg", b"<!DOCTYPE svg []><svg/>", "document type"),
        ("logo.svg", b"<svg><script>alert(1)</script></svg>", "element script"),
        ("logo.svg", b'<svg onload="alert(1)"/>', "attribute onload"),
        (
            "logo.svg",
            b'<svg xmlns:x="http://www.w3.org/1999/xlink"><use x:href="http://e/x"/></svg>',
            "attribute href",
        ),
        ("logo.svg", b"<svg><foreignObject/></svg>", "element foreignobject"),
    ],
)
def test_whatever_else_is_refused_with_the_remedy(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Configuration, match=said):
        read_logo(tmp_path / name)


def test_a_logo_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Configuration, match=r"nothing\.png cannot be read: No such file"):
        read_logo(tmp_path / "nothing.png")
