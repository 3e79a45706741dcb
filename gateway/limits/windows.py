"""In which UTC day or calendar month is a moment, and when is that over?  As drain.lua has it."""

import datetime as dt

DAY = 86400


def period_of(window: str, seconds: float) -> int:
    """The number of its day or month, counted from 1970."""
    if window == "day":
        return int(seconds // DAY)
    date = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return (date.year - 1970) * 12 + date.month - 1


def ends(window: str, period: int) -> float:
    """When it is over, in seconds since 1970."""
    if window == "day":
        return (period + 1) * DAY
    year, month = divmod(period + 1, 12)
    return dt.datetime(1970 + year, month + 1, 1, tzinfo=dt.UTC).timestamp()
