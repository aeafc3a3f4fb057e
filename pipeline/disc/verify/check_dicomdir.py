"""Check any disc's DICOMDIR: records without files, files without records, and records that contradict files."""

from collections import Counter
from collections.abc import Mapping

from pipeline.disc.dicomdir.cross_check import mismatches, stands_in
from pipeline.disc.formats.contents import Contents, DamagedZip, read_all
from pipeline.disc.formats.directory import Directory, NoDirectory, read_directory
from pipeline.disc.formats.independent_reader import ObjectIdentity
from pipeline.disc.formats.iso9660 import NoIso
from pipeline.disc.objects.one_patient import UNKNOWN_PATIENT_ID
from pipeline.disc.verify.check_objects import SeenFile
from pipeline.disc.verify.findings import Inspection, counted, some
from pipeline.disc.verify.read_back import DICOMDIR


def inspect_listing(
    contents: Contents, files: Mapping[str, SeenFile], objects: Mapping[str, ObjectIdentity], found: Inspection
) -> None:
    """Add the faults of the DICOMDIR to `found`, or that there is none; the keys of both mappings are paths."""
    directory = _directory(contents, found)
    if directory is None:
        return
    _inspect_directory(directory, contents, found)
    _inspect_records(directory, contents, objects, found)
    _inspect_other_files(directory, files, found)
    unlisted = objects.keys() - {listed.path for listed in directory.listed}
    if unlisted:
        found.error(
            f"{counted(len(unlisted), 'DICOM object is', 'DICOM objects are')} not in the DICOMDIR, and what is "
            "not in it nobody sees: "
            f"{some(sorted(unlisted))}"
        )


def _directory(contents: Contents, found: Inspection) -> Directory | None:
    """Return the DICOMDIR; if it is missing or cannot be read, return None, with the reason in `found`."""
    if DICOMDIR not in contents.files:
        found.error(_why_no_directory(contents))
        return None
    try:
        return read_directory(read_all(contents, DICOMDIR))
    except NoDirectory as reason:
        found.error(str(reason))
    except (NoIso, DamagedZip, OSError):
        pass  # The check of the files has already added every file that cannot be read.
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
        found.error(f"{counted(len(twice), 'file is', 'files are')} named by more than one record: {some(twice)}")


def _inspect_records(
    directory: Directory, contents: Contents, objects: Mapping[str, ObjectIdentity], found: Inspection
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
        why = "; such are there in small letters, which not every system takes for the same" if is_case else ""
        name = counted(len(missing), "record names a file that is", "records name files that are")
        found.error(f"{name} not there: {some(missing)}{why}")
    if wrong:
        found.error(
            f"{counted(len(wrong), 'record says', 'records say')} something else than the object to be found "
            f"there, so that it may be shown under a wrong name: {some(wrong)}"
        )
    if stand_ins:
        found.note(
            f'{counted(stand_ins, "record has", "records have")} "{UNKNOWN_PATIENT_ID}" where the object has no '
            "Patient ID: a record must have one"
        )


def _inspect_other_files(directory: Directory, files: Mapping[str, SeenFile], found: Inspection) -> None:
    """Add the records that point to files that are no objects: such a file may be a damaged image."""
    listed = (files[path] for path in sorted({record.path for record in directory.listed} & files.keys()))
    others = [f"{seen_file.path} ({seen_file.why_none})" for seen_file in listed if seen_file.why_none]
    if others:
        name = counted(
            len(others),
            "record names a file that is no DICOM object",
            "records name files that are no DICOM objects",
        )
        found.error(f"{name}: {some(others)}")
