"""What do callers' wishes come to?"""

import pytest

from gateway.cache.control import NEVER, Wish, read


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        ("", Wish()),
        ("no-store", Wish(store=False)),
        ("no-cache", Wish(reuse=False)),
        ("only-if-cached", Wish(ask=False)),
        ("max-age=60", Wish(max_age=60)),
        (' max-age = "60" ,no-store', Wish(max_age=60, store=False)),
        ("max-age=0, only-if-cached", Wish(max_age=0, ask=False)),
        ("max-age=60, max-age=5", Wish(max_age=5)),
        ("max-age=99999999999999999999", Wish(max_age=NEVER)),
        ("max-age", Wish(max_age=0)),
        ("max-age=-1", Wish(max_age=0)),
        ("max-age=1.5", Wish(max_age=0)),
        ("max-age=\u00b2", Wish(max_age=0)),
        ("no-storeroom, private, max-stale=5, ,=", Wish()),
    ],
)
def test_wishes(header: str, wish: Wish) -> None:
    """C9: the four words of the promise are honoured, and what is unclear counts as the stricter wish."""
    assert wish == read(header)
