"""What Google's SDKs take directly from an upstream they take through the gateway: odd answers, whole and streamed."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from tests.support.gateway import Gateway, running
from tests.support.wire import answer, chunked, wire

USAGE = b'"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":11,"totalTokenCount":18}'
PICTURE = b'{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}'
BOM = b"\xef\xbb\xbf"


def said(part: bytes, more: bytes = USAGE) -> bytes:
    """An answer of one candidate."""
    return b'{"candidates":[{"content":{"role":"model","parts":[%b]},"finishReason":"STOP","index":0}],%b}' % (
        part,
        more,
    )


def counted(count: bytes) -> bytes:
    """An answer that writes its counts in this way."""
    return said(b'{"text":"a"}', USAGE.replace(b"7", count, 1))


def part(written: bytes) -> bytes:
    """A text."""
    return b'{"text":"%b"}' % written


HI, ERROR = said(part(b"hi")), b'{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}'
CALL = b'{"functionCall":{"name":"f","args":{"x":%b}}}'
URI = b"![image](data:image/png;base64,iVBORw0KGgo=)"

BODIES: dict[str, bytes] = {
    "half a pair in arguments": said(CALL % rb'"\ud800"'),
    "half a pair in a text": said(part(rb"half \ud83d")),
    "the other half": said(part(rb"\ude00 rest")),
    "a byte order mark": BOM + HI,
    "NaN": said(CALL % b"NaN"),
    "Infinity": said(CALL % b"[Infinity,-Infinity]"),
    "no UTF-8": said(part(b"\xff")),
    "240 levels twice": said(CALL % (b'{"a":[' * 240 + b"]}" * 240)),
    "twice": said(b'{"text":"a","text":"b"}'),
    "error: false": said(part(b"hi"), b'"error":false,' + USAGE),
    "error: null": said(part(b"hi"), b'"error":null,' + USAGE),
    "error: {}": said(part(b"hi"), b'"error":{},' + USAGE),
    'error: ""': said(part(b"hi"), b'"error":"",' + USAGE),
    "a count in quotes": counted(b'"7"'),
    "a count with a point": counted(b"7.0"),
    "a count with an exponent": counted(b"7e0"),
    "a huge number": said(CALL % (b"9" * 400)),
    "thoughts": said(PICTURE.replace(b"}}", b'},"thought":true}') + b"," + PICTURE),
    "a picture in a text": said(part(URI)),
    "thoughts in candidates": said(part(b"hi"), USAGE.replace(b"18", b'18,"thoughtsTokenCount":4')),
    "white space": b"\r\n " + HI + b"\n\n",
}
LABELS = ["text/plain", "application/octet-stream", "text/event-stream"]


def event(data: bytes) -> bytes:
    """An event that holds this."""
    return b"data: " + data + b"\r\n\r\n"


def corpus() -> dict[str, bytes]:
    """Every odd answer, as bytes on the wire, by what it is asked for with."""
    plays = {f"whole, {name}": answer(body) for name, body in BODIES.items()}
    plays |= {f"whole as {label}": answer(HI, content_type=label) for label in LABELS}
    plays |= {f"stream, {name}": b"".join(chunked(event(body))) for name, body in BODIES.items() if "order" not in name}
    plays |= {
        f"stream as {label}": b"".join(chunked(event(HI), event(HI), content_type=label))
        for label in ["application/json", "application/octet-stream", "text/plain"]
    }
    halves = [
        b'{"candidates":[{"content":{"parts":[{"text":"half \\ud83d"}]}}]}',
        said(part(rb"\ude00 rest")),
    ]
    zeros = b'"usageMetadata":{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0}'
    plays["stream, an emoji in two"] = b"".join(chunked(*map(event, halves)))
    plays["stream, JSON over lines"] = b"".join(chunked(b'data: {"x":\n  5,\n' + HI[1:] + b"\n\n"))
    plays["stream, zeros at the end"] = b"".join(chunked(event(HI), event(said(part(b""), zeros))))
    plays["stream, an error first"] = b"".join(chunked(event(ERROR)))
    plays["stream, a plain error"] = b"".join(chunked(ERROR))
    plays["stream, an error last"] = b"".join(chunked(event(HI), event(ERROR)))
    plays["whole, an error"] = answer(ERROR, status="429 Too Many Requests")
    return plays


@contextlib.asynccontextmanager
async def both(tmp_path: Path) -> AsyncIterator[tuple[Gateway, str, list[str]]]:
    """A gateway, and an upstream whose answer is named by the number of the model."""
    plays = corpus()

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = int(head.partition(b"models/m")[2].partition(b":")[0])
        writer.write(list(plays.values())[number])
        await writer.drain()

    async with wire(play) as upstream, running(tmp_path, upstream.url) as gateway:
        yield gateway, upstream.url, list(plays)


async def seen(client: genai.Client, names: list[str]) -> dict[str, Any]:
    """What the SDK makes of each answer: what it gives, or how it fails."""
    results: dict[str, Any] = {}
    for number, name in enumerate(names):
        got: list[Any] = []
        asked: dict[str, Any] = {"model": f"m{number}", "contents": "x"}
        try:
            if name.startswith("stream"):
                stream = await client.aio.models.generate_content_stream(**asked)
                got.extend([piece async for piece in stream])
            else:
                got.append(await client.aio.models.generate_content(**asked))
        except errors.APIError as error:
            got.append((type(error).__name__, error.code, error.message))
        except Exception as error:  # noqa: BLE001  whatever the SDK raises where it cannot read
            got.append(type(error).__name__)
        results[name] = [
            repr(one.model_dump(exclude={"sdk_http_response", "parsed"})) if hasattr(one, "model_dump") else one
            for one in got
        ]
    return results


async def test_googles_sdk_for_python(tmp_path: Path) -> None:
    """SDKs: for every odd answer, what comes through the gateway is what comes directly."""
    async with both(tmp_path) as (gateway, url, names):
        results = []
        for base in (url, gateway.url):
            client = genai.Client(api_key=gateway.key, http_options=types.HttpOptions(base_url=base))
            results.append(await seen(client, names))
            await client.aio.aclose()
            client.close()
    direct, through = results
    readable = [name for name, got in direct.items() if got and "Error" not in got[-1]]
    readable += [name for name, got in direct.items() if isinstance(got[-1], tuple)]
    assert len(readable) > 40, direct
    assert {name: direct[name] for name in readable} == {name: through[name] for name in readable}


SCRIPT = """
import { GoogleGenAI } from "@google/genai";
const [key, base, names] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];
const ai = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: base } });
const results = {};
for (const [number, name] of names.entries()) {
  const got = [], asked = { model: `m${number}`, contents: "x" };
  const keep = ({ sdkHttpResponse, ...rest }) => got.push(rest);
  try {
    if (name.startsWith("stream")) for await (const piece of await ai.models.generateContentStream(asked)) keep(piece);
    else keep(await ai.models.generateContent(asked));
  } catch (error) { got.push(`${error.name} ${error.status}`); }
  results[name] = got;
}
console.log(JSON.stringify(results));
"""


async def test_googles_sdk_for_javascript(tmp_path: Path) -> None:
    """SDKs: the same with the other SDK, which also takes a byte order mark and deeper nesting."""
    modules = os.environ.get("TEST_NODE_MODULES", "")
    if not modules or shutil.which("node") is None:
        pytest.skip("needs node, and TEST_NODE_MODULES naming a folder that holds @google/genai")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "odd.mjs").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    results = []
    async with both(tmp_path) as (gateway, url, names):
        for base in (url, gateway.url):
            process = await asyncio.create_subprocess_exec(
                "node", "odd.mjs", gateway.key, base, json.dumps(names),
                cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            output, problems = await process.communicate()
            assert 0 == process.returncode, problems.decode()
            results.append(json.loads(output))
    direct, through = results
    readable = [name for name, got in direct.items() if not isinstance(got[-1], str) or "ApiError" in got[-1]]
    assert len(readable) > 40, direct
    assert {name: direct[name] for name in readable} == {name: through[name] for name in readable}
