"""Which program is run and what it sees: no impostor, no version with holes, no environment of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import dcmtk
from pipeline.commands.check import findings
from pipeline.config.program_tables import ProgramsTable
from pipeline.dcmtk import programs
from pipeline.dcmtk.known_bugs import KNOWN_BUGS
from pipeline.errors import Configuration, Transient
from pipeline.receiving.study_receiver import refuse_unsafe
from pipeline.site.settings import Settings


def fake(path: Path, says: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_missing_program_is_a_configuration_error_that_names_package_and_key(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "USUAL_FOLDERS", ())
    with pytest.raises(Configuration, match=r"apt-get install dcmtk .*brew install dcmtk .*\[programs\] movescu"):
        dcmtk.program(ProgramsTable(), "movescu")


@pytest.mark.parametrize("says", ["storescp 2.0 of pynetdicom", "$dcmtk: movescu v3.6.7 2022-04-22 $", ""])
def test_a_configured_program_that_is_another_is_a_configuration_error(tmp_path, says):
    path = fake(tmp_path / "storescp", says)
    with pytest.raises(Configuration, match=r"is not storescp of dcmtk; name that one in \[programs\] storescp"):
        dcmtk.program(ProgramsTable(storescp=str(path)), "storescp")


@pytest.mark.parametrize("text", ["storescp", "./storescp", "/", "/etc/passwd", "/does/not/exist"])
def test_a_configured_path_that_is_no_program_is_a_configuration_error(text):
    with pytest.raises(Configuration, match=r"\[programs\] storescp = .* must be the absolute path of a program"):
        dcmtk.program(ProgramsTable(storescp=text), "storescp")


def test_a_configured_program_may_be_a_script_that_answers_as_dcmtk_does(tmp_path):
    path = fake(tmp_path / "wrapped", "$dcmtk: storescp v3.6.9 2024-12-19 $")
    table = ProgramsTable(storescp=str(path))
    assert dcmtk.program(table, "storescp") == path
    assert dcmtk.version(path, "storescp")[:3] == (3, 6, 9)
    assert str(dcmtk.version(path, "storescp")) == "3.6.9"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ((3, 6, 6, "Debian"), ["older than 3.6.7"]),
        ((3, 6, 7, "Debian"), []),
        ((3, 6, 7, "Darwin"), []),
        ((3, 7, 0, "Darwin"), []),
    ],
)
def test_the_shortcomings_of_a_version_are_told(version, words):
    told = list(dcmtk.shortcomings(dcmtk.ProgramVersion(*version)))
    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True))


def test_a_child_sees_nothing_of_this_process_but_what_is_allowed(monkeypatch):
    monkeypatch.setenv("STORESTOW_API_KEY", "secret")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    seen = dcmtk.environment(ProgramsTable(dictionary="/d/own.dic"))
    assert set(seen) == {"PATH", "LANG", "TZ", "TCP_NODELAY", "DCMDICTPATH"}
    assert (seen["LANG"], seen["TZ"], seen["TCP_NODELAY"]) == ("C.UTF-8", "Europe/Berlin", "1")
    assert seen["DCMDICTPATH"] == "/d/own.dic"
    assert str(Path(sys.executable).parent) not in seen["PATH"].split(os.pathsep)
    monkeypatch.delenv("TZ")
    assert set(dcmtk.environment(ProgramsTable())) == {"PATH", "LANG", "TCP_NODELAY"}


def test_a_program_runs_to_its_end_with_both_outputs_in_one():
    done = dcmtk.run(("/bin/sh", "-c", "echo one; echo two >&2; exit 3"), {}, timeout_seconds=10)
    assert (done.exit_code, sorted(done.output.split())) == (3, ["one", "two"])


def test_a_program_that_does_not_end_is_killed_and_a_missing_one_cannot_start():
    with pytest.raises(Transient, match=r"has not ended within 0.1 s"):
        dcmtk.run(("/bin/sleep", "60"), {}, timeout_seconds=0.1)
    with pytest.raises(Transient, match="cannot be started"):
        dcmtk.run(("/does/not/exist",), {}, timeout_seconds=1)


def test_a_child_inherits_what_is_named_and_nothing_else(tmp_path):
    with (tmp_path / "a").open("wb") as named, (tmp_path / "b").open("wb") as other:
        os.set_inheritable(other.fileno(), True)
        show = (
            f"for n in {named.fileno()} {other.fileno()}; do if [ -e /dev/fd/$n ]; then echo $n; fi; done; umask"
        )
        process = dcmtk.start(("/bin/sh", "-c", show), {}, output=subprocess.PIPE, inherited=(named.fileno(),))
        output, _ = process.communicate(timeout=10)
        assert output.decode().split() == [str(named.fileno()), "0027"]


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ((3, 6, 7, "Debian"), ["nesting", "dot-dot"]),
        ((3, 6, 7, "Darwin"), ["CVE-2022-2119", "CVE-2024-34508", "CVE-2026-5663", "nesting", "dot-dot"]),
        ((3, 6, 8, ""), ["CVE-2024-34508", "CVE-2026-5663", "nesting", "dot-dot"]),
        ((3, 7, 0, "Darwin"), ["CVE-2026-5663", "nesting", "dot-dot"]),
    ],
)
def test_the_holes_of_a_version_are_known(version, names):
    assert [bug.name for bug in dcmtk.known_bugs_of(dcmtk.ProgramVersion(*version))] == names


def test_only_a_storescp_that_writes_outside_the_spool_must_not_run_in_study_mode():
    assert [bug.name for bug in KNOWN_BUGS if bug.forbids_study_mode] == ["CVE-2022-2119"]


def storescp_that_says(folder, *lines):
    path = folder / "storescp"
    path.write_text("#!/bin/sh\ncat <<'end'\n" + "\n".join(lines) + "\nend\n")
    path.chmod(0o755)
    return path


def test_study_mode_refuses_to_start_on_such_a_build_and_check_says_so(tmp_path):
    path = storescp_that_says(tmp_path, "$dcmtk: storescp v3.6.7 2022 $", "Host type: Darwin")
    with pytest.raises(Configuration, match=r"outside the spool .*CVE-2022-2119.*mode = \"association\""):
        refuse_unsafe(path)
    for mode, level in (("study", "error"), ("association", "note")):
        settings = Settings.model_validate(
            {
                "folder": tmp_path,
                "site": {"spool": str(tmp_path / "spool")},
                "programs": {"storescp": str(path)},
                "receiver": [{"name": "r", "ae_title": "A", "port": 11112, "mode": mode}],
            }
        )
        told = {f.level for f in findings(settings, peers=False) if "CVE-2022-2119" in f.text}
        assert told == {level}
