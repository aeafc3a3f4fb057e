"""Check any disc and the patients of its objects; describe its faults in words, and count sound objects."""

import re
import shlex
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydicom.uid import UID

from pipeline.dicom.patient import Patient
from pipeline.dicom.same_patient import judge
from pipeline.disc.dicomdir.cross_check import patient_of
from pipeline.disc.formats.contents import Contents, DamagedZip, FolderContents, IsoContents, ZipContents, read_all
from pipeline.disc.formats.independent_reader import ObjectIdentity
from pipeline.disc.formats.iso9660 import SHORT_NAME, NoIso
from pipeline.disc.make.viewer import AUTORUN
from pipeline.disc.model import CD, EXPLICIT
from pipeline.disc.objects.one_patient import WORDS
from pipeline.disc.pages.disc_pages import INDEX, README, SUMS
from pipeline.disc.verify.check_dicomdir import inspect_listing
from pipeline.disc.verify.check_objects import SeenFile, seen
from pipeline.disc.verify.findings import Inspection, counted, some
from pipeline.disc.verify.read_back import DICOMDIR

_FILE_SET_ID = re.compile(r"[A-Z0-9_ ]{1,16}")
_MOST_LEVELS = 8
_UNREADABLE = (NoIso, DamagedZip, OSError)


def inspect(path: Path, pass_phrase: str | None = None) -> Inspection:
    """Return the findings on an ISO image, a ZIP file or a folder (a mounted disc).

    A medium that cannot be read is a finding, not an error.
    """
    found = Inspection()
    if images := _images_in(path):
        found.error(
            f"this is no disc, but a folder with {counted(len(images), 'image', 'images')} of discs; look at each "
            f"of them: storestow disc verify {shlex.quote(str(images[0]))}"
        )
        return found
    try:
        contents = _opened(path, pass_phrase, found)
        try:
            _inspect(contents, found)
        finally:
            contents.close()
    except _UNREADABLE as error:
        found.error(f"it cannot be read: {error}")
    return found


def _images_in(path: Path) -> list[Path]:
    """Return the images in a folder that is no disc itself."""
    try:
        inside = {entry.name.upper(): entry for entry in path.iterdir()} if path.is_dir() else {}
    except OSError:  # The error is reported when it is read as a disc.
        return []
    return [] if DICOMDIR in inside else [one for name, one in sorted(inside.items()) if name.endswith(".ISO")]


def _opened(path: Path, pass_phrase: str | None, found: Inspection) -> Contents:
    if path.is_dir():
        folder = FolderContents(path)
        if folder.is_shown_otherwise:
            found.note(
                "the names are in small letters, or with version numbers, as Linux shows a disc that has no long "
                "names (mount options map, norock, nojoliet); on the disc itself they are as they must be"
            )
        return folder
    if zipfile.is_zipfile(path):
        return ZipContents(path, pass_phrase)
    image = IsoContents(path)
    _inspect_volume(image, path.stat().st_size, found)
    return image


def _inspect_volume(image: IsoContents, size: int, found: Inspection) -> None:
    primary, joliet = image.volume.primary, image.volume.joliet
    found.volume_id = primary.volume_id
    if primary.volume_size > size:
        found.error(f"the image is truncated: it says that it has {primary.volume_size:,} bytes, and has {size:,}")
    if joliet and sorted(file.extents for file in joliet.files.values()) != sorted(
        file.extents for file in primary.files.values()
    ):
        found.error("Windows, which reads the long names, sees other files than readers of the short names")
    odd = [path for path in primary.files if not all(SHORT_NAME.fullmatch(name) for name in path.split("/"))]
    if odd:
        found.note(
            f"{counted(len(odd), 'file name is', 'file names are')} not of ISO 9660 level 1 (8 characters, a dot, "
            f"3; A-Z 0-9 _), which PS3.12 F asks for: {some(odd)}"
        )
    deep = [path for path in primary.files if path.count("/") >= _MOST_LEVELS]
    if deep:
        found.note(
            f"{counted(len(deep), 'file lies', 'files lie')} more than {_MOST_LEVELS} levels deep: {some(deep)}"
        )
    if not _FILE_SET_ID.fullmatch(primary.volume_id):
        found.note(
            f'the volume is called "{primary.volume_id}", which cannot be a File-set ID (A-Z 0-9 _, 1 to 16)'
        )


def _inspect(contents: Contents, found: Inspection) -> None:
    everything = {seen_file.path: seen_file for seen_file in seen(contents)}
    _inspect_wholeness(list(everything.values()), found)
    objects = {
        path: one.claims for path, one in everything.items() if one.claims is not None and path.upper() != DICOMDIR
    }
    found.objects = len(objects)
    inspect_persons(objects, found)
    inspect_listing(contents, everything, objects, found)
    _inspect_transfer_syntaxes(contents, objects, found)
    _inspect_checksums(contents, everything, found)
    _inspect_company(contents, found)


def _inspect_wholeness(files: Sequence[SeenFile], found: Inspection) -> None:
    unreadable = [f"{seen_file.path} ({seen_file.unreadable})" for seen_file in files if seen_file.unreadable]
    if unreadable:
        found.error(f"{counted(len(unreadable), 'file', 'files')} cannot be read: {some(unreadable)}")
    bare = [seen_file.path for seen_file in files if seen_file.is_bare]
    if bare:
        found.error(
            f"{counted(len(bare), 'DICOM object has', 'DICOM objects have')} no preamble, without which nothing "
            f"opens an object: {some(bare)}"
        )
    damaged = [f"{seen_file.path} ({seen_file.problem})" for seen_file in files if seen_file.problem]
    if without := [seen_file.path for seen_file in files if seen_file.lacks_pixels]:
        have = counted(len(without), "object has", "objects have")
        found.note(f"{have} rows and columns, and no pixels: {some(without)}")
    if damaged:
        found.error(f"{counted(len(damaged), 'file is', 'files are')} damaged: {some(damaged)}")


def _inspect_transfer_syntaxes(
    contents: Contents, objects: Mapping[str, ObjectIdentity], found: Inspection
) -> None:
    others: dict[str, int] = {}
    for claims in objects.values():
        syntax = claims.transfer_syntax_uid.decode("ascii", "replace")
        if syntax != EXPLICIT:
            others[syntax] = others.get(syntax, 0) + 1
    is_cd = contents.volume_id is not None and sum(contents.files.values()) <= (CD.capacity_bytes or 0)
    for syntax, count in sorted(others.items()):
        name = UID(syntax).name if syntax else "no transfer syntax"
        why = "a general purpose CD holds Explicit VR Little Endian only (PS3.11 D)" if is_cd else ""
        are = counted(count, "object is", "objects are")
        found.note(f"{are} in {name}: {why or 'not every viewer can open that'}")


def _inspect_checksums(contents: Contents, files: Mapping[str, SeenFile], found: Inspection) -> None:
    if SUMS not in files or files[SUMS].unreadable:
        return
    changed = []
    for line in read_all(contents, SUMS).decode("utf-8", "replace").splitlines():
        sha256, _, path = line.partition("  ")
        if path not in files or files[path].sha256 != sha256:
            changed.append(path)
        else:
            found.checksums += 1
    if changed:
        are = counted(len(changed), "file is", "files are")
        found.error(f"{are} not what the disc's own list of checksums says: {some(changed)}")


def _inspect_company(contents: Contents, found: Inspection) -> None:
    names = {path.upper() for path in contents.files}
    for name, why in ((README, "what the disc is and whose"), (INDEX, "an overview for a web browser")):
        if name not in names:
            found.note(f"there is no {name}, {why}")
    if AUTORUN in names:
        found.note(
            f"{AUTORUN} wants to start a program by itself, which is blocked or feared where discs are read"
        )


def inspect_persons(objects: Mapping[str, ObjectIdentity], found: Inspection) -> None:
    """Add faults by which a reader may mistake an object's patient, or take one object for another.

    `objects` has the paths on the disc as keys.
    """
    identities = {path: patient_of(claims) for path, claims in objects.items()}
    by_id = _grouped((one.identifier, path) for path, one in identities.items())
    found.patients = len(by_id)
    if nameless := by_id.pop("", []):
        have = f"{counted(len(nameless), 'object has', 'objects have')} no Patient ID"
        said = [
            (claims.study_instance_uid.decode("latin-1"), identities[path]) for path, claims in objects.items()
        ]
        if judge(said).is_one:
            found.note(f"{have}; name and birth date are of one patient: {some(sorted(nameless))}")
        else:
            found.error(f"{have}: nobody can say of whom: {some(sorted(nameless))}")
    if len(by_id) > 1:
        found.error(f"it holds objects of {len(by_id)} patients (by Patient ID)")
    _inspect_shared_ids(by_id, identities, found)
    _inspect_shared_uids(objects, found)


def _inspect_shared_ids(
    by_id: Mapping[str, list[str]], identities: Mapping[str, Patient], found: Inspection
) -> None:
    """Add each Patient ID with two names or birth dates: a viewer groups by the ID and shows one of them."""
    for paths in by_id.values():
        for issued in _grouped((identities[path].issuer, path) for path in paths).values():
            if differs := [
                WORDS[attribute] for attribute in judge(("", identities[path]) for path in issued).differs
            ]:
                found.error(
                    f"{len(issued)} objects have the same Patient ID and not the same {' and '.join(differs)}, so "
                    f"that images may be shown under a wrong name: {some(sorted(issued))}"
                )


def _inspect_shared_uids(objects: Mapping[str, ObjectIdentity], found: Inspection) -> None:
    by_uid = _grouped((claims.sop_instance_uid.decode("latin-1"), path) for path, claims in objects.items())
    shared = [paths for uid, paths in by_uid.items() if uid and len(paths) > 1]
    if shared:
        found.note(
            f"{sum(map(len, shared))} objects share their SOP Instance UID with another, and programs that go by "
            f"it show one of them: {some(sorted(path for paths in shared for path in paths))}"
        )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, path in pairs:
        groups[key].append(path)
    return groups
