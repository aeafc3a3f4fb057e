"""The links of a HIS, as they were: a disc to download, studies to print, a page for people."""

import subprocess
import time
from pathlib import Path

import pacs as pacses
import requests
from programs import Program, Unhealthy

ANSWER_SECONDS = 90  # a disc of a few images takes two
START_SECONDS = 30


def addresses(root: str) -> tuple[tuple[str, str], ...]:
    """Return the links to click, each with what it does."""
    first, *_ = numbers = pacses.ACCESSION_NUMBERS
    return (
        ("a disc to download", f"{root}/mkiso.php?accession_number={first}"),
        ("print at the CD publisher", f"{root}/send_rimage_multiple.php?accession_numbers={','.join(numbers)}"),
        ("ask for any number", f"{root}/"),
    )


def wait_until_served(root: str, storestow: Program) -> None:
    """Wait until orders can be served."""
    end = time.monotonic() + START_SECONDS
    while True:
        storestow.must_run()
        try:
            if requests.get(f"{root}/api/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        if time.monotonic() > end:
            raise Unhealthy(f"{root}/api/health does not say that orders can be served; see {storestow.log}")
        time.sleep(0.2)


def download(root: str, folder: Path) -> Path:
    """Click the first link as a program would, and return the image it answers."""
    file = folder / f"{pacses.ACCESSION_NUMBERS[0]}.iso"
    file.write_bytes(_answer(f"{addresses(root)[0][1]}&again=1").content)
    return file


def verified(command: list[str], image: Path) -> str:
    """Return what `storestow disc verify` says of an image; raises Unhealthy where it is not good."""
    argv = [*command, "disc", "verify", str(image)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Unhealthy(f"the disc {image} is not good:\n{done.stdout}{done.stderr}", 70)
    return done.stdout.strip().splitlines()[-1]


def print_all(root: str) -> int:
    """Click the second link as a program would, and return how many images the publisher acknowledged."""
    return int(_answer(f"{addresses(root)[1][1]}&again=1").json()["files_sent"])


def _answer(address: str) -> requests.Response:
    answer = requests.get(address, timeout=ANSWER_SECONDS)
    if not answer.ok:
        raise Unhealthy(f"{address} answers {answer.status_code}: {answer.text[:500]}")
    return answer
