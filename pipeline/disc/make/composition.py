"""Compose the files of a disc: its DICOMDIR, its pages, its pictures, and links to its objects."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.logo import read_logo
from pipeline.dicom.same_patient import UNDISPUTED, Judgement
from pipeline.disc.dicomdir.dicomdir import dicomdir
from pipeline.disc.make.viewer import ViewerFile
from pipeline.disc.model import VIDEO, DiscOptions, LeftOut, Medium, SeriesUIDs, StudyOnDisc
from pipeline.disc.objects import records
from pipeline.disc.objects.arrangement import ObjectPath, PatientNode, placed
from pipeline.disc.pages.disc_names import volume_id
from pipeline.disc.pages.disc_pages import SUMS, PageData, checksums, pages, patient_of, study_of
from pipeline.disc.verify.read_back import DICOMDIR
from pipeline.errors import Configuration
from pipeline.events import Event, emit
from pipeline.spool.hashed_files import sha256_of


@dataclass(frozen=True, slots=True)
class DiscParts:
    """The parts from which a disc is composed; `judgement` is the result of the patient check."""

    patients: Sequence[PatientNode]
    pictures: Mapping[SeriesUIDs, bytes]
    left_out: Sequence[LeftOut]
    viewer: Sequence[ViewerFile]
    judgement: Judgement = UNDISPUTED


@dataclass(frozen=True, slots=True)
class ComposedDisc:
    """A tree that is ready to be written, and the SHA-256 of every file by its path on the disc."""

    tree: Mapping[str, Path]
    expected: Mapping[str, str]
    volume_id: str
    medium: Medium
    studies: tuple[StudyOnDisc, ...]

    @property
    def size(self) -> int:
        """Return the size of all files together in bytes."""
        return sum(file.stat().st_size for file in self.tree.values())


def logo_place(logo: Path) -> str:
    """Return the path of the hospital's logo on the disc."""
    return f"IHE_PDI/LOGO{logo.suffix.upper()}"


def compose(folder: Path, parts: DiscParts, medium: Medium, options: DiscOptions) -> ComposedDisc:
    """Create in `folder` the files that are made for a disc, and return the tree of all its files."""
    patients, pictures = parts.patients, parts.pictures
    objects = list(placed(patients))
    hashes_of_objects = [placed_object.entry.sha256 for placed_object in objects]
    named = volume_id(patients[0].studies[0].first.text(records.STUDY_DATE), hashes_of_objects)
    studies = tuple(study_of(study) for patient in patients for study in patient.studies)
    places = {uids: f"IHE_PDI/T{number:07d}.JPG" for number, uids in enumerate(pictures, 1)}
    logo = _logo(options.logo, named)
    data = PageData(
        patients=tuple(patient_of(patient.first) for patient in patients),
        whose={
            study.first.key.study_instance_uid: patient_of(patient.first)
            for patient in patients
            for study in patient.studies
        },
        studies=studies,
        left_out=tuple(parts.left_out),
        decoded_from=tuple(
            placed_object.entry.decoded_from
            for placed_object in objects
            if placed_object.entry.decoded_from is not None
        ),
        pictures=places,
        volume_id=named,
        medium=medium,
        options=options,
        judgement=parts.judgement,
        logo=next(iter(logo), ""),
        has_film=any(placed_object.entry.transfer_syntax_uid in VIDEO for placed_object in objects),
    )
    files = {DICOMDIR: dicomdir(patients, named), **pages(data)}
    files |= {places[uids]: picture for uids, picture in pictures.items()} | logo
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    hashes |= {placed_object.path: placed_object.entry.sha256 for placed_object in objects}
    files[SUMS] = checksums(hashes.items())
    hashes[SUMS] = hashlib.sha256(files[SUMS]).hexdigest()
    hashes |= {"/".join(file.place): sha256_of(file.path) for file in parts.viewer}
    return ComposedDisc(build_tree(folder, objects, parts.viewer, files), hashes, named, medium, studies)


def _logo(path: Path | None, volume: str) -> dict[str, bytes]:
    """Return the hospital's logo by its path on the disc; empty if there is no logo, or it cannot be shown."""
    if path is None:
        return {}
    try:
        return {logo_place(path): read_logo(path)}
    except Configuration as error:  # The images matter more than the logo. `storestow check` reports it, too.
        emit(Event.LEFT_OUT, logging.WARNING, volume=volume, what="logo", reason=error)
        return {}


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
