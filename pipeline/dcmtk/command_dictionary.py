"""The data dictionary of a storescp that keeps objects as they were sent: it reads only command sets.

DCMTK of Debian reads its dictionary of 5,000 lines at every start, which takes as long as the rest of the start.
The storescp of an association (`+B`) looks up the elements of command sets, and of the file meta information that
it writes.
"""

from collections.abc import Mapping
from pathlib import Path

_COMMAND_SET: Mapping[str, Mapping[int, str]] = {  # PS3.7 table E.1-1
    "UL": {0x0000: "CommandGroupLength"},
    "UI": {
        0x0002: "AffectedSOPClassUID",
        0x0003: "RequestedSOPClassUID",
        0x1000: "AffectedSOPInstanceUID",
        0x1001: "RequestedSOPInstanceUID",
    },
    "US": {
        0x0100: "CommandField",
        0x0110: "MessageID",
        0x0120: "MessageIDBeingRespondedTo",
        0x0700: "Priority",
        0x0800: "CommandDataSetType",
        0x0900: "Status",
        0x0903: "ErrorID",
        0x1002: "EventTypeID",
        0x1008: "ActionTypeID",
        0x1020: "NumberOfRemainingSuboperations",
        0x1021: "NumberOfCompletedSuboperations",
        0x1022: "NumberOfFailedSuboperations",
        0x1023: "NumberOfWarningSuboperations",
        0x1031: "MoveOriginatorMessageID",
    },
    "AE": {0x0600: "MoveDestination", 0x1030: "MoveOriginatorApplicationEntityTitle"},
    "AT": {0x0901: "OffendingElement", 0x1005: "AttributeIdentifierList"},
    "LO": {0x0902: "ErrorComment"},
}
_FILE_META: Mapping[str, Mapping[int, str]] = {  # PS3.10 table 7.1-1
    "UL": {0x0000: "FileMetaInformationGroupLength"},
    "OB": {0x0001: "FileMetaInformationVersion", 0x0102: "PrivateInformation"},
    "UI": {
        0x0002: "MediaStorageSOPClassUID",
        0x0003: "MediaStorageSOPInstanceUID",
        0x0010: "TransferSyntaxUID",
        0x0012: "ImplementationClassUID",
        0x0100: "PrivateInformationCreatorUID",
    },
    "SH": {0x0013: "ImplementationVersionName"},
    "AE": {
        0x0016: "SourceApplicationEntityTitle",
        0x0017: "SendingApplicationEntityTitle",
        0x0018: "ReceivingApplicationEntityTitle",
    },
}


def command_dictionary_file(run: Path, receiver: str) -> Path:
    """Return where a receiver writes the dictionary: a file of its own, as receivers start at the same moment."""
    return run / f"{receiver}.commands.dic"


def command_dictionary() -> str:
    """Return the dictionary as DCMTK reads it by DCMDICTPATH: tag, VR, name, VM, version, apart by tabulators."""
    return "".join(
        f"({group:04x},{element:04x})\t{vr}\t{name}\t{'1-n' if vr == 'AT' else '1'}\tDICOM\n"
        for group, elements_of in ((0x0000, _COMMAND_SET), (0x0002, _FILE_META))
        for vr, elements in elements_of.items()
        for element, name in elements.items()
    )
