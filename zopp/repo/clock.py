"""The edge where time comes in, and how it is written. Lean."""

import time


def now() -> int:
    """This machine's clock in Unix seconds."""
    return int(time.time())


def timestamp(seconds: int) -> str:
    """RFC 3339 in whole seconds, `Z`: the form of `lastmodified`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
