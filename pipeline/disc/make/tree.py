"""The tree of a disc: every path on it, and the file behind the path; objects are neither copied nor linked."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.disc.make.viewer import ViewerFile
from pipeline.disc.objects.arrangement import ObjectPath

# In a list of graft points `=` and the backslash have a meaning, and lines end at line breaks. A path on the disc
# can quote the first two; the file behind it is linked under a plain name.
_PLAIN = re.compile(r"[^=\\\x00-\x1f\x7f]+")


def build_tree(
    folder: Path, objects: Iterable[ObjectPath], viewer: Iterable[ViewerFile], files: Mapping[str, bytes]
) -> dict[str, Path]:
    """Return every path on the disc, in the order of the disc, with the file behind it.

    `files` maps paths on the disc to contents, which are written to `folder`.
    """
    tree: dict[str, Path] = {}
    for path, content in files.items():
        tree[path] = folder / path
        tree[path].parent.mkdir(parents=True, exist_ok=True)
        tree[path].write_bytes(content)
    tree |= {placed.path: placed.entry.path.absolute() for placed in objects}
    return tree | {"/".join(file.place): file.path for file in viewer}


def graft_points(tree: Mapping[str, Path], folder: Path) -> bytes:
    """Return the tree as a list for xorriso; files with unsuitable names are linked in `folder`."""
    lines = []
    for number, (path, source) in enumerate(tree.items()):
        named = source
        if not _PLAIN.fullmatch(str(source)):
            folder.mkdir(exist_ok=True)
            named = folder / f"{number:06d}"
            named.symlink_to(source)
        quoted = re.sub(r"([=\\])", r"\\\1", path)
        lines.append(f"{quoted}={named}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
