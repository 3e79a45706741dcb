"""The table of limits: what each row must have, and that a row is all that a further limit takes."""

import subprocess
import sys
from pathlib import Path

from gateway.config.clients import Client, Terms
from gateway.limit_table import AMOUNTS, LIMITS
from gateway.limits.estimate import Estimate
from gateway.limits.permit import Charge

HERE = Path(__file__).parent
WINDOWS = {"rate": {"minute"}, "budget": {"day", "month"}, "concurrency": {""}}


def test_each_row_can_be_counted_and_shown() -> None:
    """Limits: its unit is a number of estimates and charges, its window one of its kind's, its names are its own."""
    for limit in LIMITS:
        assert isinstance(getattr(Estimate(), limit.unit), int), limit.name
        assert 0 == getattr(Charge(), limit.unit), limit.name
        assert limit.window in WINDOWS[limit.kind], limit.name
        assert not limit.header or limit.window != "month", limit.name
    for names in ([one.name for one in AMOUNTS], [one.header for one in LIMITS if one.header]):
        assert len(names) == len(set(names))
    assert {one.name for one in AMOUNTS} < set(Terms.model_fields) < set(Client.model_fields)


def test_a_further_limit_is_a_row() -> None:
    """Limits: with two more rows and nothing else, options, list, headers, refusals, usage and gauges have them."""
    plugin, tests = f"{__package__}.further_rows", str(HERE / "with_further_rows.py")
    command = [sys.executable, "-m", "pytest", "-p", plugin, "-p", "no:xdist", "-p", "no:cacheprovider", tests]
    done = subprocess.run(command, cwd=HERE.parents[2], capture_output=True, text=True, check=False, timeout=55)
    assert 0 == done.returncode, done.stdout + done.stderr
