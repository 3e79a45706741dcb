"""Can one request be taken for two, or two for one?  Raw bytes; what is doubtful is refused and the connection closed."""

import asyncio
import re

from tests.support.gateway import Gateway, Upstream

CALL = b"POST /v1beta/models/gemini-2.5-flash:generateContent HTTP/1.1\r\nhost: x\r\nx-goog-api-key: KEY\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
TAIL = b"content-length: 2\r\n\r\n{}" + NEXT

# Refused by the head: one 400, and what stands behind it is never read as a request.
REFUSED: dict[str, bytes] = {
    "CL.TE": CALL + b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG" + NEXT,
    "TE.CL": CALL + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + NEXT,
    "TE.TE": CALL + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n" + NEXT,
    "TE on HTTP/1.0": CALL.replace(b"1.1", b"1.0") + CHUNKED + b"2\r\n{}\r\n0\r\n\r\n" + NEXT,
    **{
        f"TE {coding!r}": CALL + b"transfer-encoding:" + coding + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + NEXT
        for coding in (
            b"", b" identity", b" xchunked", b" chunked, chunked", b" gzip, chunked", b" chunked, gzip", b' "chunked"', b" chunked;q=1",
            b"\x0bchunked", b" chunked\r\ntransfer-encoding: chunked",
        )
    },
    "TE with a blank": CALL + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + NEXT,
    **{
        f"CL {length!r}": CALL + b"content-length:" + length + b"\r\n\r\n{}" + NEXT
        for length in (
            b"", b" 2\r\ncontent-length: 3", b" 2\r\ncontent-length: 2", b" 2, 2", b" +2", b" -2", b" 0x2", b" 2 3", b" 2.0", b" 1_0",
            b" 18446744073709551618",
        )
    },
    **{
        f"line {line!r}": CALL + line + TAIL
        for line in (
            b"x: a\rb\r\n", b"x: a\r", b"x: a\0b\r\n", b"x\0: a\r\n", b"x: a\x01b\r\n", b"x: a\r\n b\r\n", b": a\r\n", b"xa\r\n", b"x y: a\r\n",
        )
    },
    "bare LF": (CALL + TAIL).replace(b"\r\n", b"\n"),
    "one bare LF": CALL.replace(b"host: x\r\n", b"host: x\n") + TAIL,
    **{
        f"version {version!r}": CALL.replace(b"HTTP/1.1", version) + TAIL
        for version in (b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/0.9", b"HTTP/1.1 x", b"")
    },
    **{f"host {host!r}": CALL.replace(b"host: x", b"host:" + host) + TAIL for host in (b"", b" a@b", b" a, b", b" a:999999", b" a/b?", b" [x")},
    "CONNECT": b"CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test:443\r\n\r\n" + NEXT,
    "target without a slash": CALL.replace(b" /v1", b" @evil.test/v1") + TAIL,
    "blank in the target": CALL.replace(b"/v1beta", b"/v1 beta") + TAIL,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NEXT,
}  # fmt: skip

# Broken in the body, when a call is under way: it ends with the connection, and nobody is asked.
BROKEN: list[bytes] = [
    b"2\r\n{}0\r\n\r\n", b"2;a=\x01\r\n{}\r\n0\r\n\r\n", b"2;a\nb\r\n{}\r\n0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n",
    b"+2\r\n{}\r\n0\r\n\r\n", b"2 \r\n{}\r\n0\r\n\r\n", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n", b"2\r\n{}\r\n0\n\n",
    b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}x\r\n0\r\n\r\n",
]  # fmt: skip


async def heard(gateway: Gateway, request: bytes) -> tuple[list[bytes], bytes]:
    """The statuses of all answers, and their bytes; the gateway must be the one who closes."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(5):
            writer.write(request.replace(b"KEY", gateway.key.encode()))
            received = await reader.read()
    finally:
        writer.close()
    return re.findall(rb"HTTP/1\.1 (\d+)", received), received


async def test_doubtful_heads(gateway: Gateway, upstream: Upstream) -> None:
    """P2 P6: each is one 400 in our shape and a closed connection; nothing behind it is answered, nothing is asked."""
    for name, request in REFUSED.items():
        statuses, received = await heard(gateway, request)
        assert [b"400"] == statuses, name
        assert b'"reason": "BAD_REQUEST"' in received, name
        assert b"connection: close" in received, name
    assert [] == await upstream.log()


async def test_broken_chunks(gateway: Gateway, upstream: Upstream) -> None:
    """P2: the connection ends without an answer that could be taken for one, and the upstream never hears of it."""
    for body in BROKEN:
        assert ([], b"") == await heard(gateway, CALL + CHUNKED + body + NEXT), body
    assert [] == await upstream.log()
    entries = await gateway.entries(len(BROKEN))
    assert {("client_gone", 499, 0)} == {(entry["outcome"], entry["status"], entry["attempts"]) for entry in entries}


async def test_what_is_not_doubtful(gateway: Gateway) -> None:
    """P2: chunks with an extension, HTTP/1.0, a second request behind a body, an absolute target: each is served."""
    closing = CALL + b"connection: close\r\n"
    chunks = b"2;a=b\r\n{}\r\n0\r\nx-trailer: y\r\n\r\n"
    ended = NEXT.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    for request, statuses in (
        (closing + CHUNKED + chunks, 1),
        (CALL.replace(b"1.1", b"1.0") + b"connection: keep-alive\r\ncontent-length: 2\r\n\r\n{}", 1),
        (CALL + CHUNKED + chunks + ended, 2),
        (b"\r\n" + closing.replace(b" /v1", b" http://evil.test/v1") + b"content-length: 2\r\n\r\n{}" + NEXT, 1),
        (NEXT.replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\nhello") + ended, 2),
    ):
        answered, received = await heard(gateway, request)
        assert statuses == len(answered), received
        assert not {b"500", b"502"} & set(answered), received
