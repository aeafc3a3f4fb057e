"""As fuzzing.py, but led by what the bytes reach: needs atheris, which is not among the dependencies (Linux only).

PYTHONPATH=tests python -m support.hostile.guided_fuzzing TARGET SECONDS FOLDER

FOLDER/corpus grows, FOLDER/crash-… is what was not survived.
"""

import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline", "pydicom", "h11", "starlette", "uvicorn"]):
    from support.hostile.fuzzing import seeds
    from support.hostile.hostile_targets import survive


def main() -> None:
    """Fuzz one target for so many seconds."""
    target, seconds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    corpus, room = folder / "corpus", folder / "room"
    for one in (corpus, room):
        one.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target, None)):
        (corpus / f"seed{number}").write_bytes(seed)
    warnings.simplefilter("ignore")
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder}/",
        "-max_len=4096",
        "-len_control=0",
        "-timeout=20",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda content: survive(target, content, room))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
