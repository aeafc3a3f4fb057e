"""CT slices of 512 x 512 to send, each with pixels of its own, in as many studies as a row wants."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid


def slices(folder: Path, count: int, studies: int = 1) -> list[Path]:
    """Write `count` slices in each of `studies` studies; return a folder for each study."""
    data_set = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    pixels = np.tile(data_set.pixel_array, (4, 4)).astype("<i2")
    data_set.Rows, data_set.Columns = pixels.shape
    noise = np.random.default_rng(1).integers(-20, 20, pixels.shape, "i2")
    folders = []
    for study in range(studies):
        folders.append(folder / f"{study:03}")
        folders[-1].mkdir(parents=True)
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = generate_uid(), generate_uid()
        data_set.PatientID = f"BENCH{study}"
        for number in range(count):
            data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            data_set.InstanceNumber = number + 1
            data_set.PixelData = (np.roll(pixels, number) + np.roll(noise, 7 * number + study)).tobytes()
            data_set.save_as(folders[-1] / f"{number:05}.dcm")
    return folders
