"""The same as `delivery` with the archive on a core of its own, and sender, router and gateway on the other one.

An archive elsewhere takes no processor time from a gateway; one machine of two cores gets no nearer to that.
"""

from rows_of_delivery import contenders
from table import Row

ROW = Row(
    "end to end, 200 CT, archive on a core of its own, quiet time taken off",
    contenders(None, "none", apart=True),
    {"ours, study": 1.15, "ours, association": 1.15},
    seconds=60,
)
