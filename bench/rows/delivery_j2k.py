"""The same with JPEG 2000 on the way, beside an Orthanc that transcodes what it receives, and proves nothing."""

from rows_of_delivery import contenders
from table import Row

ROW = Row(
    "end to end, 200 CT in JPEG 2000, quiet time taken off",
    contenders("1.2.840.10008.1.2.4.90", "j2k", "htj2k"),
    {"ours, j2k, study": 0.83, "ours, htj2k, study": 0.45, "ours, htj2k, association": 0.45},
)
