"""Every real object there is, coerced: what was not touched is as it was, and every text says the same."""

import json
import warnings
from collections import Counter
from pathlib import Path

import pytest
from conftest import CORPUS
from pydicom import Dataset
from support.sites import coercing

from pipeline.coercions import coerce, rules_of
from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.attributes.declared_text import declared_by
from pipeline.dicom.attributes.elements import TEXT_VRS, bytes_of, element_of, vr_of
from pipeline.dicom.part10 import DataSetLayout, Malformed
from pipeline.dicom.walk import walk
from pipeline.errors import Permanent

INSTITUTIONS = ["Clínica São José", "東京病院 Łódź"]  # in Latin-1; in UTF-8 only


@pytest.fixture(scope="module")
def objects(corpus) -> list[tuple[str, bytes, DataSetLayout]]:
    """Every well-formed object with a data set; intake refuses the others before anything is coerced."""
    found = []
    for path in sorted(corpus.rglob("*")):
        if path.is_file() and path.suffix not in {".md", ".csv", ".txt", ".json"}:
            data = path.read_bytes()
            try:
                found.append((str(path.relative_to(corpus)), data, walk(data)))
            except Malformed:
                continue
    assert len(found) > (450 if CORPUS.is_dir() else 60)
    return found


def rules(folder: Path, institution: str):
    (folder / "map.json").write_text(json.dumps({"CT1": institution}))
    return rules_of(coercing.site(folder, institution_mapping="map.json", default_coercions="always"))


@pytest.mark.parametrize("institution", INSTITUTIONS)
def test_what_is_not_touched_comes_out_as_it_came_in(objects, tmp_path, institution):
    site, compared = rules(tmp_path, institution), Counter()
    for name, data, layout in objects:
        header = coercing.header(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                touched = coerce(header, coercing.origin(), site).touched
            except Permanent:
                compared["refused"] += 1
                continue
        for tag, element in layout.elements.items():
            if element.start >= layout.header_end or tag in touched:
                continue
            received = element_of(header, tag)
            if received.is_raw:
                compared["raw"] += 1
                assert coercing.element_bytes(header, tag) == data[element.start : element.end], (name, hex(tag))
            elif tag != 0x00080005:  # pydicom reads that one at once
                compared["parsed"] += 1
                same = coercing.element_bytes(header, tag) == data[element.start : element.end]
                compared["rewritten"] += not same
        assert set(header.keys()) <= set(layout.elements) | touched
    assert compared["raw"] > 1000
    assert compared["rewritten"] <= 2, compared  # of sequences without length: those encoded as UN
    assert compared["refused"] <= 2


@pytest.mark.parametrize("institution", INSTITUTIONS)
def test_every_text_says_the_same_afterwards(objects, tmp_path, institution):
    site, widened, refused = rules(tmp_path, institution), 0, []
    for name, data, _ in objects:
        header, before = coercing.header(data), texts(coercing.header(data))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                changes = coerce(header, coercing.origin(), site).changes
            except Permanent:
                refused.append(name)
                continue
            after = texts(coercing.reread(header))
        changed = {c.tag for c in changes}
        widened += 0x00080005 in changed
        assert after.pop((0x00080080,)) == institution
        for path, text in before.items():
            if path[0] not in changed | {0x04000561}:
                assert after[path] == text, (name, path)
    assert all("label_wrong" in name for name in refused)
    assert widened


def test_coercing_every_object_again_changes_nothing(objects, tmp_path):
    site = rules(tmp_path, INSTITUTIONS[1])
    for name, data, _ in objects:
        header = coercing.header(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert coerce(header, coercing.origin(), site).changes, name
            except Permanent:
                continue
            again = coercing.reread(header)
            assert coerce(again, coercing.origin(), site).touched == frozenset(), name


def texts(dataset: Dataset, inherited: CharacterSet | None = None, path=()) -> dict:
    """Every text of the data set and its items by where it stands, as its declaration says, bytes where not."""
    charset = declared_by(dataset, inherited)
    found = {}
    for tag in dataset.keys():  # noqa: SIM118  # iterating would decode
        element = element_of(dataset, tag)
        vr = vr_of(element, dataset)
        if vr == "SQ":
            for number, item in enumerate(dataset[tag].value):
                found |= texts(item, charset, (*path, tag, number))
        elif vr in TEXT_VRS and (raw := bytes_of(element)) is not None:
            try:
                found[(*path, int(tag))] = charset.decode(raw, vr).rstrip(" \0")
            except UnicodeDecodeError:
                found[(*path, int(tag))] = raw
    return found
