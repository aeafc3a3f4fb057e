"""`storestow disc`: make a disc of files, or verify one. `pipeline.disc` does the work."""

import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from pipeline.commands.command_site import CommandContext, Json
from pipeline.errors import Permanent, Usage
from pipeline.processes.signal_handling import ended_by_signals

if TYPE_CHECKING:
    from pipeline.disc.model import Container, SourceFile

_PASS_PHRASE = "STORESTOW_PASS_PHRASE"  # noqa: S105  # the variable's name


class _MakeUnlessNamed(TyperGroup):
    """A group with a default command: `disc PATH` means `disc make PATH`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command before an argument that names no command."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_MakeUnlessNamed,
    no_args_is_help=True,
    help="Make a disc of files and folders: `storestow disc PATH... -o FILE.iso`; or look at one with `verify`.",
)


@app.command()
def make(  # noqa: PLR0913, PLR0917  # each is an option of the command
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders with everything below them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The disc to make: .iso, or .zip.")],
    media: Annotated[Literal["auto", "cd", "dvd", "usb"], typer.Option(help="What it must fit.")] = "auto",
    viewer: Annotated[Path | None, typer.Option(help="Folder with a viewer you may hand out.")] = None,
    viewer_at: Annotated[Literal["VIEWER", "root"], typer.Option(help="Where it goes.")] = "VIEWER",
    viewer_autorun: Annotated[
        bool,
        typer.Option("--viewer-autorun", help="Let the viewer's AUTORUN.INF go along (with --viewer-at root)."),
    ] = False,
    contact: Annotated[str, typer.Option(help="How whoever finds the disc reaches you.")] = "",
    encrypt: Annotated[
        bool,
        typer.Option("--encrypt", help=f"Encrypt a .zip; the pass phrase is asked for, or in {_PASS_PHRASE}."),
    ] = False,
    several_patients: Annotated[
        bool, typer.Option("--several-patients", help="Allow objects of more than one patient.")
    ] = False,
    no_patient_id: Annotated[
        bool, typer.Option("--no-patient-id", help="Allow objects without Patient ID.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a disc, read it back, and only then give it its name."""
    from pipeline.disc.errors import NoPatientID, SeveralPatients  # noqa: PLC0415
    from pipeline.disc.make.make import make_disc  # noqa: PLC0415
    from pipeline.disc.model import DiscOptions  # noqa: PLC0415
    from pipeline.disc.verify import report  # noqa: PLC0415

    container = _container(output)
    if encrypt and container != "zip":
        raise Usage("--encrypt is for a .zip: an ISO image cannot be encrypted")
    if viewer_autorun and viewer_at != "root":
        raise Usage("--viewer-autorun needs --viewer-at root: AUTORUN.INF works in the root only")
    options = DiscOptions(
        made_at=datetime.now().astimezone(),
        media=media,
        container=container,
        pass_phrase=_pass_phrase(is_new=True) if encrypt else None,
        viewer=viewer.absolute() if viewer else None,
        viewer_at=viewer_at,
        viewer_autorun=viewer_autorun,
        contact=contact,
        allow_several_patients=several_patients,
        allow_no_patient_id=no_patient_id,
        **_of_the_site(),
    )
    try:
        with ended_by_signals(), report.progress() as progress:
            disc = make_disc(_sources(paths), output.absolute(), options, progress)
    except (NoPatientID, SeveralPatients) as refused:
        if not as_json:
            report.show_examples(refused)
        raise
    report.show_disc(disc, as_json=as_json)


@app.command()
def verify(
    disc: Annotated[Path, typer.Argument(help="An ISO image, a ZIP file, or the folder a disc is mounted at.")],
    encrypted: Annotated[
        bool,
        typer.Option(
            "--encrypted", help=f"The ZIP file is encrypted; the pass phrase is asked for, or in {_PASS_PHRASE}."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at a disc, ours or anybody's, and say in words what is wrong with it."""
    from pipeline.disc.verify import report  # noqa: PLC0415
    from pipeline.disc.verify.inspection import inspect  # noqa: PLC0415

    if not disc.exists():
        raise Usage(f"{disc} does not exist")
    found = inspect(disc, _pass_phrase() if encrypted else None)
    report.show_inspection(found, as_json=as_json)
    if not found.is_good:
        raise typer.Exit(Permanent.exit_code)


def _sources(paths: list[Path]) -> "list[SourceFile]":
    from pipeline.disc.make.folders import files_of  # noqa: PLC0415
    from pipeline.disc.model import SourceFile  # noqa: PLC0415

    return [SourceFile(path.absolute()) for path in files_of(paths)]


def _pass_phrase(*, is_new: bool = False) -> str:
    """Return the pass phrase from the environment, or ask for it.

    Ask for a new one twice, because it is invisible.
    """
    if from_environment := os.environ.get(_PASS_PHRASE):
        return from_environment
    try:
        return str(typer.prompt("Pass phrase", hide_input=True, confirmation_prompt=is_new, err=True))
    except typer.Abort as error:
        if isinstance(error.__context__, EOFError):
            raise Usage(f"nobody is here to type the pass phrase: put it into {_PASS_PHRASE}") from error
        raise


def _of_the_site() -> dict[str, Any]:
    """Return the site's settings for discs, empty if no site is configured: a disc needs none."""
    from pipeline.site.settings import DEFAULT_FILES, load  # noqa: PLC0415

    if CommandContext.site is None and not any(file.exists() for file in DEFAULT_FILES):
        return {}
    settings = load(CommandContext.site)
    told = {"programs": settings.programs, "placeholders": settings.site.placeholder_ids}
    return told | asdict(settings.on_discs)


def _container(output: Path) -> "Container":
    match output.suffix.lower():
        case ".iso":
            return "iso"
        case ".zip":
            return "zip"
    raise Usage(f"{output.name} must end in .iso or .zip: that says what is made")
