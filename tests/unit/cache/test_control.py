"""What does a caller's `Cache-Control` mean?"""

import pytest

from gateway.cache.control import NEVER, CacheControl, parse


@pytest.mark.parametrize(
    ("header", "directives"),
    [
        ("", CacheControl()),
        ("no-store", CacheControl(store=False)),
        ("no-cache", CacheControl(reuse=False)),
        ("only-if-cached", CacheControl(ask=False)),
        ("max-age=60", CacheControl(max_age=60)),
        (' max-age = "60" ,no-store', CacheControl(max_age=60, store=False)),
        ("max-age=0, only-if-cached", CacheControl(max_age=0, ask=False)),
        ("max-age=60, max-age=5", CacheControl(max_age=5)),
        ("max-age=99999999999999999999", CacheControl(max_age=NEVER)),
        ("max-age", CacheControl(max_age=0)),
        ("max-age=-1", CacheControl(max_age=0)),
        ("max-age=1.5", CacheControl(max_age=0)),
        ("max-age=\u00b2", CacheControl(max_age=0)),
        ("no-storeroom, private, max-stale=5, ,=", CacheControl()),
    ],
)
def test_wishes(header: str, directives: CacheControl) -> None:
    """C9: the four promised directives are honoured, and what is unclear counts as the stricter one."""
    assert directives == parse(header)
