"""A shell completes commands, and the names of the site that is chosen."""

import os
import subprocess
import sys

import pytest
from support.sites.running_site import write_site

SITE = {"receivers": [{"name": "modalities", "ae_title": "STORESTOW", "port": 11112}]}
DESTINATIONS = [{"name": name, "kind": "null"} for name in ("archive", "another", "copies")]


def completed(tmp_path, *words: str) -> set[str]:
    """Return what bash is told after these words, of which the last is not finished."""
    line = ["storestow", *words]
    asked = {"_STORESTOW_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(words))}
    main = "import sys; sys.argv[0] = 'storestow'; from pipeline.commands.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main],
        env={**os.environ, **asked},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("mig",), {"migrate"}),
        (("pause", "a"), {"archive", "another"}),
        (("receive", "m"), {"modalities"}),
        (("--site", "site.toml", "pause", "c"), {"copies"}),
    ],
)
def test_commands_and_names_of_the_site_are_completed(tmp_path, words, wanted):
    write_site(tmp_path, destinations=DESTINATIONS, **SITE)
    assert completed(tmp_path, *words) == wanted


def test_a_broken_configuration_completes_to_nothing_and_says_nothing(tmp_path):
    (tmp_path / "site.toml").write_text("[site\n")
    assert completed(tmp_path, "pause", "a") == set()
