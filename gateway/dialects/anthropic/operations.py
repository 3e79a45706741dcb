"""What can be asked in Anthropic's dialect?"""

from collections.abc import Mapping

from gateway.call import Operation

# `anthropic-beta` and members of the body travel in pairs, so whatever SDKs add to them crosses; not what names an
# account, or what only a browser's reader of headers needs.
HEADERS = frozenset({b"anthropic-*", b"idempotency-key"})
PRIVATE = frozenset({b"anthropic-workspace-id", b"anthropic-dangerous-direct-browser-access"})

MESSAGES = Operation(
    name="messages",
    http=("POST",),
    bills="tokens",
    expects_usage=True,
    cacheable=True,
    upstream_headers=HEADERS,
    private_headers=PRIVATE,
)
COUNT_TOKENS = Operation(
    name="countMessageTokens",
    http=("POST",),
    bills="request",
    cacheable=True,
    cache_seconds=300,
    optional=True,
    upstream_headers=HEADERS,
    private_headers=PRIVATE,
)

# What stands behind the version in a path.
TAILS: Mapping[str, Operation] = {"messages": MESSAGES, "messages/count_tokens": COUNT_TOKENS}
