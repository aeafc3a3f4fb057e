"""pydicom's functions to read a file, with our bounds on inflation."""

import pydicom.filereader
from pydicom.filereader import dcmread, read_partial

from pipeline.dicom.reading import bound_inflation

bound_inflation(pydicom.filereader)

__all__ = ["dcmread", "read_partial"]
