"""The door to external programs: exact command lines and a profile that fits."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import CORPUS
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag

from pipeline import dcmtk
from pipeline.config.certificates import Certificates
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.dcmtk import profile
from pipeline.dcmtk.sop_classes import SHIPPED, VERIFICATION, can_be_stored

CT = "1.2.840.10008.5.1.4.1.1.2"
RECEIVER = ReceiverTable(name="ct", ae_title="STORE STOW", port=11112, quiet_seconds=7, max_pdu=65536)


def test_the_command_line_of_study_mode():
    argv = dcmtk.storescp_study_argv(
        Path("/usr/bin/storescp"), RECEIVER, incoming=Path("/s/incoming/ct"), run=Path("/s/run"), hook="H #p"
    )
    assert argv == (
        *(
            "/usr/bin/storescp",
            "-aet",
            "STORE STOW",
            "-pdu",
            "65536",
            "-dhl",
            "-up",
            "+uf",
            "-ta",
            "5",
            "-ts",
            "60",
        ),
        *(
            "-xf",
            "/s/run/ct.profile",
            "Storestow",
            "-lc",
            "/s/run/ct.log.cfg",
            "-od",
            "/s/incoming/ct",
            "-su",
            "S",
        ),
        *("-xs", "-tos", "7", "-xcs", "H #p", "11112"),
    )


def test_the_command_line_of_an_association():
    argv = dcmtk.storescp_inetd_argv(
        Path("/usr/bin/storescp"),
        RECEIVER,
        folder=Path("/s/A_1"),
        profile="/dev/fd/7",
        log_configuration="/dev/fd/8",
    )
    assert argv == (
        *(
            "/usr/bin/storescp",
            "-aet",
            "STORE STOW",
            "-pdu",
            "65536",
            "-dhl",
            "-up",
            "+uf",
            "-ta",
            "5",
            "-ts",
            "310",
        ),
        *("--inetd", "+B", "-xf", "/dev/fd/7", "Storestow", "-lc", "/dev/fd/8", "-od", "/s/A_1"),
    )


@pytest.mark.parametrize(
    "folder",
    [
        "/s/S_1.2.3",
        "/s/S_1;touch pwned",
        "/s/S_$(touch pwned)",
        "/s/S_`touch pwned`",
        "/s/S_\"'\\ two  blanks",
        "/s/S_'; touch pwned; '",
        "/s/S_\\",
        "-n",
        "",
    ],
)
def test_whatever_stands_in_the_path_reaches_the_hook_as_one_argument(tmp_path, folder):
    hook = tmp_path / "show"
    hook.write_text("import sys\nprint(sys.argv[1:])\n")
    command = dcmtk.hook_command(
        *(Path(sys.executable), hook, Path("/s/incoming/ct"), Path("/s/run/ct.objects.log")), delimiter="end-0123"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace("#p", folder)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{['/s/incoming/ct', folder, '/s/run/ct.objects.log']}\n"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("path", ["/with blank/x", "/a#p", "/a;b", "relative/x", "/ümlaut", "/a$HOME"])
@pytest.mark.parametrize("place", range(4))
def test_a_path_that_may_not_stand_in_a_shell_is_refused_by_name(path, place):
    paths = [Path("/p"), Path("/h"), Path("/i"), Path("/o")]
    paths[place] = Path(path)
    with pytest.raises(dcmtk.NoRoomInShell, match="must be absolute") as caught:
        dcmtk.hook_command(*paths, delimiter="end")
    assert path in str(caught.value)


def contexts(text: str) -> list[tuple[str, str]]:
    rows = [line.split(" = ")[1] for line in text.splitlines() if line.startswith("PresentationContext")]
    return [(row.split("\\")[0], row.split("\\")[1]) for row in rows if "\\" in row]


def test_the_profile_of_study_mode_holds_128_contexts_at_most_and_begins_with_c_echo():
    rows = contexts(dcmtk.profile_text(dcmtk.study_sop_classes(())))
    assert rows[0] == (VERIFICATION, "Uncompressed")
    assert len(rows) == len({uid for uid, _ in rows}) <= 128
    assert {uid for uid, _ in rows[1:]} == set(SHIPPED)


def test_a_sites_own_classes_come_before_the_shipped_ones_and_push_the_last_out():
    more = [f"1.2.3.{n}" for n in range(20)]
    accepted = dcmtk.study_sop_classes(more)
    assert len(accepted) == 128
    assert accepted[:21] == (VERIFICATION, *more)
    assert len(contexts(dcmtk.profile_text(accepted))) == 128


def test_a_profile_of_more_than_128_contexts_is_refused():
    dcmtk.profile_text(f"1.2.{n}" for n in range(128))
    with pytest.raises(ValueError, match="129 SOP classes"):
        dcmtk.profile_text(f"1.2.{n}" for n in range(129))


def test_explicit_little_endian_comes_first_then_implicit_then_lossless_then_lossy():
    from pydicom.uid import UID

    order = list(profile.TRANSFER_SYNTAXES)
    assert order[:2] == ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
    assert len(order) == len(set(order))
    lossless = {f"1.2.840.10008.1.2.4.{n}" for n in (57, 70, 80, 90)} | {
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
    }
    lossy = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91)}
    assert max(map(order.index, lossless)) < min(map(order.index, lossy))
    assert not [uid for uid in order if "High-Throughput" in UID(uid).name or "JPEG XL" in UID(uid).name]


FOURTEEN = {
    "CR": "1",
    "CT": "2",
    "MR": "4",
    "US": "6.1",
    "NM": "20",
    "PT": "128",
    "SC": "7",
    "XA": "12.1",
    "XRF": "12.2",
    "DX": "1.1",
    "MG": "1.2",
    "PR": "11.1",
    "KO": "88.59",
    "SR": "88.11",
}


@pytest.mark.parametrize("modality", FOURTEEN)
def test_the_fourteen_classes_of_the_old_scripts_are_shipped(modality):
    assert f"1.2.840.10008.5.1.4.1.1.{FOURTEEN[modality]}" in SHIPPED


def test_every_class_of_the_corpus_that_belongs_to_a_study_is_shipped(corpus):
    if corpus != CORPUS:
        pytest.skip("needs the corpus's manifest")
    rows = csv.DictReader((corpus / "MANIFEST.csv").read_text(encoding="utf-8").splitlines())
    classes = {row["sop_class_uid"] for row in rows if row["sop_class_uid"] and row["study_uid"]}
    assert len(classes) > 30
    assert classes - set(SHIPPED) <= {"1.2.840.10008.1.3.10"}  # a DICOMDIR is no instance


def test_association_mode_accepts_what_can_be_stored_and_nothing_else():
    private, find, commitment = "1.2.3.4", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1"
    assert dcmtk.proposed_sop_classes([CT, private, find, commitment, CT, VERIFICATION]) == (
        CT,
        private,
        VERIFICATION,
    )
    assert dcmtk.proposed_sop_classes(["1.2.840.10008.1.2.1"]) == (VERIFICATION,)
    assert dcmtk.proposed_sop_classes([find]) == (VERIFICATION,)
    assert dcmtk.proposed_sop_classes([]) == (VERIFICATION,)


def test_what_the_standard_knows_as_no_storage_class_is_refused_without_the_dictionary_of_pydicom():
    from pydicom._uid_dict import UID_dictionary

    for uid, (name, kind, *_) in UID_dictionary.items():
        is_storage = kind == "SOP Class" and "Storage" in name and "Commitment" not in name
        assert can_be_stored(uid) == is_storage, (uid, name)


CERTIFICATES = Certificates(Path("/c.pem"), Path("/k.pem"), Path("/ca.pem"), client_is_required=True)


@pytest.mark.parametrize(
    ("certificates", "options"),
    [
        (None, ()),
        (CERTIFICATES, ("+tls", "/k.pem", "/c.pem", "-pw", "+cf", "/ca.pem", "+py", "-rc")),
        (
            replace(CERTIFICATES, client_is_required=False),
            ("+tls", "/k.pem", "/c.pem", "-pw", "+cf", "/ca.pem", "+py", "-vc"),
        ),
        (
            replace(CERTIFICATES, client_is_required=False, ca=None),
            ("+tls", "/k.pem", "/c.pem", "-pw", "+py", "-ic"),
        ),
    ],
)
def test_the_options_of_an_encrypted_storescp(certificates, options):
    assert dcmtk.encrypted(("storescp", "11112"), certificates) == ("storescp", *options, "11112")


def test_the_short_dictionary_says_of_every_element_what_the_standard_says():
    lines = [line.split("\t") for line in dcmtk.command_dictionary().splitlines()]

    said = {int(tag[1:5] + tag[6:10], 16): (vr, name) for tag, vr, name, _, _ in lines}

    assert len(said) == len(lines)
    assert said == {tag: (dictionary_VR(tag), keyword_for_tag(tag)) for tag in said}
    in_force = {tag for tag, entry in DicomDictionary.items() if tag >> 16 == 0 and entry[3] != "Retired"}
    assert {tag for tag in said if tag >> 16 == 0} == in_force
