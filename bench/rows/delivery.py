"""From the first C-STORE until an Orthanc archive counts every instance of one study, not encoded."""

from rows_of_delivery import contenders
from table import Row

ROW = Row(
    "end to end, 200 CT, quiet time taken off",
    contenders(None, "none"),
    {"ours, study": 1.5, "ours, association": 1.5},
    seconds=60,
)
