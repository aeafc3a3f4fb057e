"""The archive of the demonstration, and its PACS: a private Orthanc each, which also counts for itself."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
from programs import Program, Unhealthy, find, free_port

PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/local/share/orthanc/plugins"))
START_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """Orthanc, answering on the loopback interface only."""

    program: Program
    root: str

    @property
    def studies(self) -> str:
        """Return its STOW-RS and QIDO-RS address."""
        return f"{self.root}/dicom-web/studies"

    def sop_instance_uids(self, study_instance_uid: str) -> set[str]:
        """Ask by QIDO-RS which instances of a study are there."""
        answer = requests.get(
            f"{self.studies}/{study_instance_uid}/instances",
            headers={"Accept": "application/dicom+json"},
            timeout=30,
        )
        if answer.status_code in {requests.codes.no_content, requests.codes.not_found}:
            return set()
        answer.raise_for_status()
        return {instance["00080018"]["Value"][0] for instance in answer.json()}

    def store(self, files: Iterable[Path]) -> None:
        """Put files into it by its own interface; what it has already stays as it is."""
        for file in files:
            requests.post(f"{self.root}/instances", data=file.read_bytes(), timeout=30).raise_for_status()

    def stored_bytes(self, study_instance_uid: str) -> int:
        """Return the size of a study's files on Orthanc's disk, compressed by nobody but us."""
        found = requests.post(f"{self.root}/tools/lookup", data=study_instance_uid, timeout=30).json()
        sizes = [
            requests.get(f"{self.root}{study['Path']}/statistics", timeout=30).json()["DicomDiskSize"]
            for study in found
            if study["Type"] == "Study"
        ]
        return sum(int(size) for size in sizes)


def start(folder: Path, log: Path, dicom: Mapping[str, object] | None = None) -> Archive:
    """Start Orthanc with its data below `folder` and wait until it answers; `dicom` lets it speak DIMSE."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps({**_settings(folder, port), **(dicom or {})}, indent=2))
    archive = Archive(Program("Orthanc", [find("Orthanc"), str(configuration)], log), f"http://127.0.0.1:{port}")
    try:
        _wait_for(archive)
    except BaseException:  # also Ctrl-C: whoever called has no handle yet to stop it by
        archive.program.stop()
        raise
    return archive


def _wait_for(archive: Archive) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        archive.program.must_run()
        try:
            requests.get(archive.studies, params={"limit": "1"}, timeout=5).raise_for_status()
        except requests.RequestException as error:
            if time.monotonic() > end:
                raise Unhealthy(f"Orthanc does not answer at {archive.studies}: {error}") from error
            time.sleep(0.1)
        else:
            return


def _settings(folder: Path, port: int) -> dict[str, object]:
    plugin = next((file for place in PLUGINS for file in place.glob("libOrthancDicomWeb.*")), None)
    if plugin is None:
        raise Unhealthy("Orthanc's DICOMweb plug-in is not installed: `make install` brings it")
    return {
        "Name": "storestow demonstration",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,  # it listens on every address, and answers this machine only
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,  # the archive takes studies by STOW-RS alone
        "OverwriteInstances": False,
        "ExecuteLuaEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Host": "127.0.0.1", "Ssl": False},
    }
