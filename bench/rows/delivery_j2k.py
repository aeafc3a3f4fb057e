"""The same with JPEG 2000 on the way, beside an Orthanc that transcodes what it receives, and proves nothing."""

from rows_of_delivery import contenders
from table import Row

JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
GOALS = {"j2k": 0.83, "htj2k": 0.45}
ROW = Row(
    "end to end, 200 CT in JPEG 2000, quiet time taken off",
    contenders(JPEG_2000_LOSSLESS, "j2k", "htj2k"),
    {f"ours, {encoding}, {mode}": goal for encoding, goal in GOALS.items() for mode in ("study", "association")},
    seconds=150,
)
