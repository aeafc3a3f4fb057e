"""Write the tree of a disc as a ZIP file, encrypted with AES-256 if there is a pass phrase."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyzipper

from pipeline.disc.errors import UnfitPassPhrase

_LEVEL = 1  # Level of deflate: level 6 takes twice the time to save a few percent of real images.
_MODE = 0o640  # The mode xorriso gives an image, minus the umask.
SHORTEST = 10  # Characters of a pass phrase.


def check_pass_phrase(pass_phrase: str) -> None:
    """Raise UnfitPassPhrase if the pass phrase is too short, or has other than printable ASCII characters.

    ZIP programs disagree about the bytes of other characters.
    """
    if len(pass_phrase) < SHORTEST or not pass_phrase.isascii() or not pass_phrase.isprintable():
        raise UnfitPassPhrase(
            f"a pass phrase must have at least {SHORTEST} characters, letters without accents, digits and signs: "
            "programs disagree about the others"
        )


def write_archive(
    tree: Mapping[str, Path], target: Path, pass_phrase: str | None, progress: Callable[[int], None]
) -> None:
    """Write every file under its path, in order; `progress` gets the number of source bytes written so far."""
    done = 0
    with _opened(target, pass_phrase) as archive:
        for path, source in tree.items():
            archive.write(source, path)
            done += source.stat().st_size
            progress(done)


def _opened(target: Path, pass_phrase: str | None) -> Any:
    how: dict[str, Any] = {
        "compression": zipfile.ZIP_DEFLATED,
        "compresslevel": _LEVEL,
        "strict_timestamps": False,
    }
    target.touch(_MODE, exist_ok=False)
    if pass_phrase is None:
        return zipfile.ZipFile(target, "w", **how)
    archive = pyzipper.AESZipFile(target, "w", **how)
    archive.setpassword(pass_phrase.encode())
    archive.setencryption(pyzipper.WZ_AES, nbits=256)
    return archive
