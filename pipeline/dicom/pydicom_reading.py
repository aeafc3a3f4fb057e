"""pydicom's ways to read a file, which inflate within our bounds."""

import pydicom.filereader
from pydicom.filereader import dcmread, read_partial

from pipeline.dicom.deflation import bound_inflation

bound_inflation(pydicom.filereader)

__all__ = ["dcmread", "read_partial"]
