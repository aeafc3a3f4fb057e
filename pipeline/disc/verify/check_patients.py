"""Check whose the objects of any disc are, and whether each is there once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pipeline.dicom.patient import Patient
from pipeline.dicom.same_patient import judge
from pipeline.disc.dicomdir.cross_check import patient_of
from pipeline.disc.formats.independent_reader import ObjectIdentity
from pipeline.disc.objects.one_patient import WORDS
from pipeline.disc.verify.findings import Inspection, counted, some


def inspect_persons(objects: Mapping[str, ObjectIdentity], found: Inspection) -> None:
    """Add what keeps a reader from telling an object's patient, or one object from another; by their paths."""
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
    """Add each Patient ID with two names or birth dates: a viewer goes by the ID and shows one of them."""
    for paths in by_id.values():
        for issued in _grouped((identities[path].issuer, path) for path in paths).values():
            if differs := [WORDS[one] for one in judge(("", identities[path]) for path in issued).differs]:
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
