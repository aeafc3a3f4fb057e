"""The files on a medium of any kind: an ISO image, a ZIP file, a folder (a mounted disc, a USB stick)."""

import contextlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pyzipper

from pipeline.disc.formats.iso9660 import SHORT_NAME, IsoFile, IsoVolume, pieces_of, read_volume

PIECE = 1 << 20
_IS_ENCRYPTED = 1  # Bit of the general purpose flag.


class DamagedZip(Exception):
    """Say why a ZIP file, or a file in it, cannot be read."""


class Contents(Protocol):
    """Files by path on the medium, in the order of the medium, with their lengths."""

    volume_id: str | None
    files: dict[str, int]
    folders: frozenset[str]

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file, piece by piece; raises DamagedZip or OSError."""

    def close(self) -> None:
        """Close what was opened."""


@contextlib.contextmanager
def _read() -> Iterator[None]:
    """Turn every error of the ZIP readers into DamagedZip: for a damaged file they raise a dozen kinds."""
    try:
        yield
    except Exception as error:
        raise DamagedZip(str(error).strip() or type(error).__name__) from error


def read_all(contents: Contents, path: str) -> bytes:
    """Return a whole file."""
    return b"".join(contents.pieces(path))


class IsoContents:
    """An ISO image by the names of its primary tree, as a reader without Joliet and Rock Ridge sees it.

    `by_long_names`: use Joliet's names, as Windows does, if the image has them.
    """

    def __init__(self, path: Path, *, by_long_names: bool = False) -> None:
        self.volume: IsoVolume = read_volume(path)
        self._image = path.open("rb")
        joliet = self.volume.joliet if by_long_names else None
        self._tree = joliet or self.volume.primary
        self.volume_id: str | None = self.volume.primary.volume_id
        self.files = {name: file.size for name, file in self._tree.files.items()}
        self.folders = self._tree.folders

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file; fewer than its length if the image is truncated."""
        yield from pieces_of(self._image, self._tree.files[path])

    def on_image(self) -> list[IsoFile]:
        """Return the files with their positions, in the order of the image."""
        return list(self._tree.files.values())

    def close(self) -> None:
        """Close the file."""
        self._image.close()


class ZipContents:
    """A ZIP file; `pass_phrase` opens an encrypted one."""

    volume_id: str | None = None

    def __init__(self, path: Path, pass_phrase: str | None = None) -> None:
        with _read():
            if pass_phrase is None:
                self._archive = zipfile.ZipFile(path)
                _refuse_encrypted(self._archive)
            else:
                self._archive = pyzipper.AESZipFile(path)
                self._archive.setpassword(pass_phrase.encode())
        self.files = {entry.filename: entry.file_size for entry in self._archive.infolist() if not entry.is_dir()}
        self.folders = frozenset(str(parent) for name in self.files for parent in Path(name).parents)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file; its checksum is verified at the end. Raises DamagedZip."""
        with _read(), self._archive.open(path) as file:
            while piece := file.read(PIECE):
                yield piece

    def close(self) -> None:
        """Close the file."""
        self._archive.close()


def _refuse_encrypted(archive: zipfile.ZipFile) -> None:
    if any(entry.flag_bits & _IS_ENCRYPTED for entry in archive.infolist()):
        raise DamagedZip("it is encrypted: with --encrypted its pass phrase is asked for")


class FolderContents:
    """A folder: a mounted disc, or a stick.

    `is_shown_otherwise` says that the system shows the names in small letters, or with version numbers, as it does
    for a disc with short names only; the paths here are those on the disc.
    """

    volume_id: str | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        found = sorted(entry for entry in path.rglob("*") if not entry.is_symlink())
        names = {entry: entry.relative_to(path).as_posix() for entry in found}
        meant = {one: _on_the_disc(name) for one, name in names.items()}
        self.is_shown_otherwise = _is_shown_otherwise(
            {names[entry]: meant[entry] for entry in found if entry.is_file()}
        )
        shown = meant if self.is_shown_otherwise else names
        self._files = {shown[entry]: entry for entry in found if entry.is_file()}
        self.files = {name: one.stat().st_size for name, one in self._files.items()}
        self.folders = frozenset(shown[entry] for entry in found if entry.is_dir())

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        with self._files[path].open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def close(self) -> None:
        """Do nothing, because no file stays open."""


def _on_the_disc(path: str) -> str:
    """Return a path as ISO 9660 has it, for one shown as `dicomdir`, `DICOMDIR.` or `DICOMDIR.;1`.

    Long names stay.
    """
    parts = (re.sub(r"\.?(;\d+)?$", "", part) for part in path.split("/"))
    return "/".join(part.upper() if SHORT_NAME.fullmatch(part.upper()) else part for part in parts)


def _is_shown_otherwise(files: Mapping[str, str]) -> bool:
    """Tell whether the shown paths differ from those on the disc as systems show short names.

    Then all of them are in small letters, or have versions; one name in capitals shows that a person chose it.
    """
    changed = {shown for shown, meant in files.items() if shown != meant}
    is_all = all(shown in changed or shown != shown.upper() for shown in files)
    return is_all and "DICOMDIR" in {files[shown] for shown in changed} and len(set(files.values())) == len(files)
