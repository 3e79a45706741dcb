"""Two more rows in the table of limits, as somebody would write them there: a plugin that pytest loads before all else."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ROWS = """
    Limit(
        name="images_per_minute", kind="rate", unit="images", window="minute", listed="images/min",
        help="pictures made", example=6, header="images",
        burst=Burst(name="images_at_once", listed="images at once", help="pictures above it", example=2),
    ),
    Limit(
        name="kilotokens_per_month", kind="budget", unit="tokens", window="month", listed="kilotokens/month",
        help="tokens of a calendar month", example=2.5, scale=1000,
    ),
)
RATES ="""

spec = find_spec("gateway.limit_table")
assert spec is not None
assert spec.origin is not None
source = Path(spec.origin).read_text()
assert 1 == source.count("\n)\nRATES =")
table = ModuleType("gateway.limit_table")
sys.modules["gateway.limit_table"] = table
exec(compile(source.replace("\n)\nRATES =", ROWS), spec.origin, "exec"), table.__dict__)
