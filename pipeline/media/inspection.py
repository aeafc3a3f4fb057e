"""Look at anybody's disc and say in words what is wrong with it; what is right is counted."""

import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom.uid import UID

from pipeline.media.claims import Claims
from pipeline.media.contents import Contents, Damaged, FolderContents, IsoContents, ZipContents, read_all
from pipeline.media.cross_check import mismatches, patient_id_of, stands_in
from pipeline.media.directory import Directory, NoDirectory, read_directory
from pipeline.media.findings import Inspection, some
from pipeline.media.guards import UNKNOWN_PATIENT_ID
from pipeline.media.iso9660 import SHORT_NAME, NoIso
from pipeline.media.model import CD, EXPLICIT
from pipeline.media.pages import INDEX, README, SUMS
from pipeline.media.read_back import DICOMDIR
from pipeline.media.viewer import AUTORUN
from pipeline.media.wholeness import NO_PIXELS, Seen, seen

_FILE_SET_ID = re.compile(r"[A-Z0-9_ ]{1,16}")
_MOST_LEVELS = 8
_MOST_README_BYTES = 1 << 20
_PLACE = re.compile(rb"^DISC (\d{1,2}) OF (\d{1,2})\b", re.MULTILINE)
_UNREADABLE = (NoIso, Damaged, OSError)


def inspect(path: Path, pass_phrase: str | None = None) -> Inspection:
    """Return what can be told about an ISO image, a ZIP file or a folder (a mounted disc); never raises."""
    found = Inspection()
    try:
        contents = _opened(path, pass_phrase, found)
        try:
            _inspect(contents, found)
        finally:
            contents.close()
    except _UNREADABLE as error:
        found.error(f"it cannot be read: {error}")
    return found


def _opened(path: Path, pass_phrase: str | None, found: Inspection) -> Contents:
    if path.is_dir():
        return FolderContents(path)
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
            f"{len(odd)} file names are not of ISO 9660 level 1 (8 characters, a dot, 3; A-Z 0-9 _), which "
            f"PS3.12 F asks for: {some(odd)}"
        )
    deep = [path for path in primary.files if path.count("/") >= _MOST_LEVELS]
    if deep:
        found.note(f"{len(deep)} files lie more than {_MOST_LEVELS} levels deep: {some(deep)}")
    if not _FILE_SET_ID.fullmatch(primary.volume_id):
        found.note(
            f'the volume is called "{primary.volume_id}", which cannot be a File-set ID (A-Z 0-9 _, 1 to 16)'
        )


def _inspect(contents: Contents, found: Inspection) -> None:
    everything = {one.path: one for one in seen(contents)}
    _inspect_wholeness(list(everything.values()), found)
    objects = {
        path: one.claims for path, one in everything.items() if one.claims is not None and path.upper() != DICOMDIR
    }
    found.objects = len(objects)
    _inspect_patients(objects, found)
    directory = _directory(contents, found)
    if directory is not None:
        _inspect_directory(directory, contents, found)
        _inspect_records(directory, contents, objects, found)
        _inspect_other_files(directory, everything, found)
        unlisted = objects.keys() - {listed.path for listed in directory.listed}
        if unlisted:
            found.error(
                f"{len(unlisted)} DICOM objects are not in the DICOMDIR, so that nobody sees them: "
                f"{some(sorted(unlisted))}"
            )
    _inspect_transfer_syntaxes(contents, objects, found)
    _inspect_checksums(contents, everything, found)
    _inspect_company(contents, found)


def _inspect_wholeness(files: Sequence[Seen], found: Inspection) -> None:
    unreadable = [f"{one.path} ({one.unreadable})" for one in files if one.unreadable]
    if unreadable:
        found.error(f"{len(unreadable)} files cannot be read: {some(unreadable)}")
    bare = [one.path for one in files if one.is_bare]
    if bare:
        found.error(f"{len(bare)} DICOM objects have no preamble, so that nothing opens them: {some(bare)}")
    damaged = [f"{one.path} ({one.problem})" for one in files if one.problem not in {"", NO_PIXELS}]
    if without := [one.path for one in files if one.problem == NO_PIXELS]:
        found.note(f"{len(without)} objects have rows and columns, and no pixels: {some(without)}")
    if damaged:
        found.error(f"{len(damaged)} files are damaged: {some(damaged)}")


def _inspect_other_files(directory: Directory, files: Mapping[str, Seen], found: Inspection) -> None:
    """Say which records lead to files that are no objects: what nobody can open was an image once."""
    listed = (files[path] for path in sorted({one.path for one in directory.listed} & files.keys()))
    others = [f"{one.path} ({one.why_none})" for one in listed if one.why_none]
    if others:
        found.error(f"{len(others)} records name files that are no DICOM objects: {some(others)}")


def _inspect_patients(objects: Mapping[str, Claims], found: Inspection) -> None:
    patients = Counter(patient_id_of(claims) for claims in objects.values())
    found.patients = len(patients)
    if nameless := patients.pop("", 0):
        found.error(f"{nameless} objects have no Patient ID: nobody can say whose they are")
    if len(patients) > 1:
        found.error(f"it holds objects of {len(patients)} patients (by Patient ID)")


def _directory(contents: Contents, found: Inspection) -> Directory | None:
    """Return the index, or say in which way there is none."""
    if DICOMDIR not in contents.files:
        found.error(_why_no_directory(contents))
        return None
    try:
        return read_directory(read_all(contents, DICOMDIR))
    except NoDirectory as reason:
        found.error(str(reason))
    except _UNREADABLE:
        pass  # said already, as of every file that cannot be read
    return None


def _why_no_directory(contents: Contents) -> str:
    what_happens = "viewers and archives that read discs find nothing"
    if any(folder.upper() == DICOMDIR for folder in contents.folders):
        return (
            "DICOMDIR is a folder, where the index file of that name must be (PS3.10 8.6): there is no index, "
            f"{what_happens}"
        )
    other = next((path for path in contents.files if path.rpartition("/")[2].upper().startswith(DICOMDIR)), None)
    if other:
        return f"the index is called {other}; it must be DICOMDIR, in the root: {what_happens}"
    return f"there is no DICOMDIR, the index of all objects: {what_happens}"


def _inspect_directory(directory: Directory, contents: Contents, found: Inspection) -> None:
    found.file_set_id, found.listed = directory.file_set_id, len(directory.listed)
    for problem in directory.problems[:3]:
        found.error(problem)
    if not directory.listed:
        found.error("the DICOMDIR lists no object")
    if contents.volume_id is not None and directory.file_set_id != contents.volume_id:
        found.note(
            f'the File-set ID is "{directory.file_set_id}", the volume is called "{contents.volume_id}"; PS3.12 F '
            "wants them to be the same"
        )
    paths = [listed.path for listed in directory.listed]
    if twice := sorted(path for path, count in Counter(paths).items() if count > 1):
        found.error(f"{len(twice)} files are named by more than one record: {some(twice)}")


def _inspect_records(
    directory: Directory, contents: Contents, objects: Mapping[str, Claims], found: Inspection
) -> None:
    in_capitals = {path.upper() for path in contents.files}
    missing, wrong, stand_ins = [], [], 0
    for listed in directory.listed:
        if listed.path not in contents.files:
            missing.append(listed.path)
        elif listed.path in objects and (names := list(mismatches(listed, objects[listed.path]))):
            wrong.append(f"{listed.path} ({', '.join(names)})")
        stand_ins += listed.path in objects and stands_in(listed, objects[listed.path])
    if missing:
        is_case = in_capitals.issuperset(missing)
        why = "; they are, in small letters, which not every system takes for the same" if is_case else ""
        found.error(f"{len(missing)} records name files that are not there: {some(missing)}{why}")
    if wrong:
        found.error(
            f"{len(wrong)} records say something else than the object they lead to, so that it may be shown under "
            f"a wrong name: {some(wrong)}"
        )
    if stand_ins:
        found.note(
            f'{stand_ins} records have "{UNKNOWN_PATIENT_ID}" where the object has no Patient ID: a record must '
            "have one"
        )


def _inspect_transfer_syntaxes(contents: Contents, objects: Mapping[str, Claims], found: Inspection) -> None:
    others: dict[str, int] = {}
    for claims in objects.values():
        syntax = claims.transfer_syntax_uid.decode("ascii", "replace")
        if syntax != EXPLICIT:
            others[syntax] = others.get(syntax, 0) + 1
    is_cd = contents.volume_id is not None and sum(contents.files.values()) <= (CD.capacity_bytes or 0)
    for syntax, count in sorted(others.items()):
        name = UID(syntax).name if syntax else "no transfer syntax"
        why = "a general purpose CD holds Explicit VR Little Endian only (PS3.11 D)" if is_cd else ""
        found.note(f"{count} objects are in {name}: {why or 'not every viewer can open them'}")


def _inspect_checksums(contents: Contents, files: Mapping[str, Seen], found: Inspection) -> None:
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
        found.error(f"{len(changed)} files are not what the disc's own list of checksums says: {some(changed)}")


def _inspect_company(contents: Contents, found: Inspection) -> None:
    names = {path.upper() for path in contents.files}
    if said := _PLACE.search(_readme(contents)):
        found.place = int(said[1]), int(said[2])
    for name, why in ((README, "what the disc is and whose"), (INDEX, "an overview for a web browser")):
        if name not in names:
            found.note(f"there is no {name}, {why}")
    if AUTORUN in names:
        found.note(
            f"{AUTORUN} wants to start a program by itself, which is blocked or feared where discs are read"
        )


def _readme(contents: Contents) -> bytes:
    if not 0 < contents.files.get(README, 0) <= _MOST_README_BYTES:
        return b""
    try:
        return read_all(contents, README)
    except _UNREADABLE:
        return b""
