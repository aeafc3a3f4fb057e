"""An instance of each of fourteen storage classes, by the name people use, valid as far as dciodvfy looks.

The pixels are real ones that pydicom brings along; the attributes are what PS3.3 asks of the IOD.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

ROOT = "1.2.840.10008.5.1.4.1.1"
CLASSES = {
    "CR": f"{ROOT}.1",
    "CT": f"{ROOT}.2",
    "MR": f"{ROOT}.4",
    "US": f"{ROOT}.6.1",
    "NM": f"{ROOT}.20",
    "PT": f"{ROOT}.128",
    "SC": f"{ROOT}.7",
    "XA": f"{ROOT}.12.1",
    "XRF": f"{ROOT}.12.2",
    "DX": f"{ROOT}.1.1",
    "MG": f"{ROOT}.1.2",
    "PR": f"{ROOT}.11.1",
    "KO": f"{ROOT}.88.59",
    "SR": f"{ROOT}.88.11",
}
WITHOUT_PIXELS = ("PR", "KO", "SR")
MODALITY = {"SC": "OT", "XRF": "RF"}


@cache
def _pixels() -> "np.ndarray[Any, Any]":
    """Return a real slice as 128 x 128 unsigned 12-bit values."""
    signed = pydicom.dcmread(get_testdata_file("CT_small.dcm")).pixel_array.astype(int)
    return np.clip(signed - signed.min(), 0, 4095).astype("<u2")


def build(name: str, folder: Path) -> Path:
    """Write an instance of the class people call `name`, in a study of its own."""
    data_set = _common(name)
    for keyword, value in {**_image(name), **MODULES[name]()}.items():
        setattr(data_set, keyword, value)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.dcm"
    data_set.save_as(path, enforce_file_format=True)
    return path


def _common(name: str) -> Dataset:
    """Return the patient, study, series and equipment every IOD asks for."""
    data_set = Dataset()
    study = generate_uid()
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "SOPClassUID": UID(CLASSES[name]),
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": study,
        "SeriesInstanceUID": generate_uid(),
        "StudyDate": "20260101",
        "StudyTime": "120000",
        "ContentDate": "20260101",
        "ContentTime": "120000",
        "AcquisitionDate": "20260101",
        "AcquisitionTime": "120000",
        "SeriesDate": "20260101",
        "SeriesTime": "120000",
        "AccessionNumber": f"ACC-{name}",
        "Modality": MODALITY.get(name, name),
        "Manufacturer": "Maker",
        "ManufacturerModelName": "Model",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "InstitutionName": "As received",
        "ReferringPhysicianName": "Referrer^A",
        "PatientName": f"Test^{name}",
        "PatientID": f"ID-{name}",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "PatientOrientation": ["L", "P"],
        "BodyPartExamined": "CHEST",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
    }
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    return data_set


def _image(name: str) -> dict[str, Any]:
    if name in WITHOUT_PIXELS:
        return {}
    bits = 8 if name in {"US", "SC", "XA", "XRF"} else 16 if name in {"NM", "PT"} else 12
    pixels = (_pixels() >> 4).astype("u1") if bits == 8 else _pixels()
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 if bits == 8 else 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }


def _items(*items: dict[str, Any]) -> list[Dataset]:
    made = []
    for values in items:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        made.append(item)
    return made


def _code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    return _items({"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning})


def _plane() -> dict[str, Any]:
    return {
        "FrameOfReferenceUID": generate_uid(),
        "PositionReferenceIndicator": "",
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "SliceThickness": 1,
    }


def _cr() -> dict[str, Any]:
    return {"ViewPosition": "AP", "ImageType": ["ORIGINAL", "PRIMARY"]}


def _ct() -> dict[str, Any]:
    more = {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "KVP": 120, "AcquisitionNumber": 1}
    return {
        **_plane(),
        **more,
        "PatientPosition": "HFS",
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
    }


def _mr() -> dict[str, Any]:
    return {
        **_plane(),
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "PatientPosition": "HFS",
        "RepetitionTime": 500,
        "EchoTime": 10,
        "EchoTrainLength": 1,
        "ImagedNucleus": "1H",
    }


def _us() -> dict[str, Any]:
    return {"ImageType": ["ORIGINAL", "PRIMARY", "ABDOMINAL", "0001"], "LossyImageCompression": "00"}


def _nm() -> dict[str, Any]:
    return {
        "FrameOfReferenceUID": generate_uid(),
        "PositionReferenceIndicator": "",
        "ImageType": ["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"],
        "NumberOfFrames": 1,
        "FrameIncrementPointer": [0x00540010, 0x00540020],
        "PixelSpacing": [1, 1],
        "EnergyWindowVector": 1,
        "DetectorVector": 1,
        "NumberOfEnergyWindows": 1,
        "NumberOfDetectors": 1,
        "PatientOrientationCodeSequence": _code("102538003", "SCT", "recumbent"),
        "PatientGantryRelationshipCodeSequence": _code("102540008", "SCT", "headfirst"),
        "EnergyWindowInformationSequence": _items({"EnergyWindowName": "Tc99m"}),
        "RadiopharmaceuticalInformationSequence": _items(
            {"RadionuclideCodeSequence": [], "Radiopharmaceutical": "x"}
        ),
        "DetectorInformationSequence": _items(
            {
                "CollimatorType": "PARA",
                "ImagePositionPatient": [0, 0, 0],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            }
        ),
        "ActualFrameDuration": 1000,
        "CountsAccumulated": 1,
    }


def _pt() -> dict[str, Any]:
    return {
        **_plane(),
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "Units": "BQML",
        "CountsSource": "EMISSION",
        "SeriesType": ["STATIC", "IMAGE"],
        "NumberOfSlices": 1,
        "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START",
        "DecayFactor": 1,
        "CollimatorType": "NONE",
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
        "FrameReferenceTime": 0,
        "ImageIndex": 1,
        "ActualFrameDuration": 1000,
        "RadiopharmaceuticalInformationSequence": _items({"RadionuclideCodeSequence": []}),
        "PatientOrientationCodeSequence": _code("102538003", "SCT", "recumbent"),
        "PatientGantryRelationshipCodeSequence": _code("102540008", "SCT", "headfirst"),
    }


def _sc() -> dict[str, Any]:
    return {"ConversionType": "WSD", "ImageType": ["DERIVED", "SECONDARY"]}


def _xray() -> dict[str, Any]:
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "SINGLE PLANE"],
        "PixelIntensityRelationship": "LIN",
        "RadiationSetting": "GR",
        "KVP": 80,
        "XRayTubeCurrent": 10,
        "ExposureTime": 10,
        "Exposure": 1,
        "LossyImageCompression": "00",
        "NumberOfFrames": 1,
        "FrameTime": 100,
        "FrameIncrementPointer": 0x00181063,
    }


def _xa() -> dict[str, Any]:
    return {**_xray(), "PositionerMotion": "STATIC", "PositionerPrimaryAngle": 0, "PositionerSecondaryAngle": 0}


def _xrf() -> dict[str, Any]:
    return {**_xray(), "ColumnAngulation": 0}


def _dx() -> dict[str, Any]:
    return {
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageType": ["ORIGINAL", "PRIMARY", ""],
        "ImageLaterality": "U",
        "AnatomicRegionSequence": _code("51185008", "SCT", "Chest"),
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": 1,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
        "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY",
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
        "DetectorType": "DIRECT",
        "ImagerPixelSpacing": [1, 1],
        "WindowCenter": 2048,
        "WindowWidth": 4096,
        "AcquisitionContextSequence": [],
    }


def _mg() -> dict[str, Any]:
    return {
        **_dx(),
        "AnatomicRegionSequence": _code("76752008", "SCT", "Breast"),
        "ImageLaterality": "L",
        "OrganExposed": "BREAST",
        "PositionerType": "MAMMOGRAPHIC",
        "PartialView": "NO",
        "ViewCodeSequence": _view(),
        "BreastImplantPresent": "NO",
    }


def _view() -> list[Dataset]:
    view = _code("399162004", "SCT", "cranio-caudal")
    view[0].ViewModifierCodeSequence = []
    return view


def _referenced_series() -> list[Dataset]:
    image = _items({"ReferencedSOPClassUID": UID(CLASSES["CT"]), "ReferencedSOPInstanceUID": generate_uid()})
    return _items({"SeriesInstanceUID": generate_uid(), "ReferencedImageSequence": image})


def _pr() -> dict[str, Any]:
    shown = {
        "DisplayedAreaTopLeftHandCorner": [1, 1],
        "DisplayedAreaBottomRightHandCorner": [128, 128],
        "PresentationSizeMode": "SCALE TO FIT",
        "PresentationPixelAspectRatio": [1, 1],
    }
    return {
        "PresentationCreationDate": "20260101",
        "PresentationCreationTime": "120000",
        "ContentLabel": "LABEL",
        "ContentDescription": "",
        "ContentCreatorName": "Creator^A",
        "ReferencedSeriesSequence": _referenced_series(),
        "DisplayedAreaSelectionSequence": _items(shown),
        "PresentationLUTShape": "IDENTITY",
    }


def _document(title: list[Dataset], template: str) -> dict[str, Any]:
    return {
        "ReferencedPerformedProcedureStepSequence": [],
        "PerformedProcedureCodeSequence": [],
        "ValueType": "CONTAINER",
        "ContinuityOfContent": "SEPARATE",
        "ConceptNameCodeSequence": title,
        "ContentTemplateSequence": _items({"MappingResource": "DCMR", "TemplateIdentifier": template}),
        "SeriesDescription": "A document",
    }


def _ko() -> dict[str, Any]:
    referenced = _items({"ReferencedSOPClassUID": UID(CLASSES["CT"]), "ReferencedSOPInstanceUID": generate_uid()})
    series = _items({"SeriesInstanceUID": generate_uid(), "ReferencedSOPSequence": referenced})
    evidence = _items({"StudyInstanceUID": generate_uid(), "ReferencedSeriesSequence": series})
    image = _items({"RelationshipType": "CONTAINS", "ValueType": "IMAGE", "ReferencedSOPSequence": referenced})
    return {
        **_document(_code("113000", "DCM", "Of Interest"), "2010"),
        "CurrentRequestedProcedureEvidenceSequence": evidence,
        "ContentSequence": image,
    }


def _sr() -> dict[str, Any]:
    text = {
        "RelationshipType": "CONTAINS",
        "ValueType": "TEXT",
        "ConceptNameCodeSequence": _code("121071", "DCM", "Finding"),
        "TextValue": "Nothing to see",
    }
    return {
        **_document(_code("18748-4", "LN", "Diagnostic imaging study"), "2000"),
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "UNVERIFIED",
        "ContentSequence": _items(text),
    }


MODULES: dict[str, Callable[[], dict[str, Any]]] = {
    "CR": _cr,
    "CT": _ct,
    "MR": _mr,
    "US": _us,
    "NM": _nm,
    "PT": _pt,
    "SC": _sc,
    "XA": _xa,
    "XRF": _xrf,
    "DX": _dx,
    "MG": _mg,
    "PR": _pr,
    "KO": _ko,
    "SR": _sr,
}
