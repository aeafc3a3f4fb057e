"""A logo is a picture and nothing else: it can start nothing, and load nothing."""

import pytest

from pipeline.config.logo import LARGEST, read_logo
from pipeline.errors import Configuration

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9"/></svg>'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("logo.png", PNG),
        ("logo.svg", SVG),
        ("LOGO.SVG", SVG),
        ("logo.svg", b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>' + SVG),
        ("logo.svg", b"<svg><style>.a{fill:url(#b)} .c{mask:url( '#d' )}</style></svg>"),
        ("logo.svg", b'<svg style="fill:url(#b)"><image href="data:image/png;base64,eA=="/></svg>'),
        ("logo.svg", b'<svg xmlns:i="http://i" i:file="C:\\logo.png"/>'),
    ],
)
def test_a_picture_is_read_as_it_is(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_logo(tmp_path / name) == content


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("logo.gif", b"GIF89a", "neither .png nor .svg"),
        ("logo.png", SVG, "is no PNG file"),
        ("logo.png", PNG + b"\x00" * LARGEST, "more than 256 KiB"),
        ("logo.svg", PNG, "not in UTF-8"),
        ("logo.svg", b"<svg>", "no well-formed SVG"),
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
        ("logo.svg", b"<svg><style>@import 'http://e/x';</style></svg>", "its style loads"),
        ("logo.svg", b"<svg><style>@im<b/>port 'http://e/x';</style></svg>", "its style loads"),
        ("logo.svg", b"<svg><style>svg{background:u\\72l(http://e/x)}</style></svg>", "its style loads"),
        ("logo.svg", b"<svg><style>svg{background:image-set('http://e/x' 1x)}</style></svg>", "its style loads"),
        ("logo.svg", b"<svg style=\"background: URL( 'http://e/x')\"/>", "attribute style"),
        ("logo.svg", b'<svg><path fill="url(http://e/x#a)"/></svg>', "attribute fill"),
        ("logo.svg", b'<svg><image href="data:image/svg+xml,x"/></svg>', "attribute href"),
        ("logo.svg", b'<svg xml:base="http://e/"><use href="#a"/></svg>', "attribute base"),
        ("logo.svg", b'<svg><img xmlns="http://www.w3.org/1999/xhtml" src="http://e/x"/></svg>', "element img"),
        ("logo.svg", b'<?xml-stylesheet href="http://e/x"?><svg/>', "style sheet of its own"),
        ("logo.svg", "<!DOCTYPE svg []><svg/>".encode("utf-16"), "not in UTF-8"),
        ("logo.svg", "<!DOCTYPE svg []><svg/>".encode("utf-16-le"), "not in UTF-8"),
        ("logo.svg", b'<?xml version="1.0" encoding="UTF-7"?><svg/>', "says that it is in 'UTF-7'"),
    ],
)
def test_whatever_else_is_refused_with_the_remedy(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Configuration, match=said):
        read_logo(tmp_path / name)


def test_a_logo_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Configuration, match=r"nothing\.png cannot be read: No such file"):
        read_logo(tmp_path / "nothing.png")
