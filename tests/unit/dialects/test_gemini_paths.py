"""Which paths are Gemini's, and which model do they name?"""

import re
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.config.clients import Client
from gateway.dialects import ALL, Router
from gateway.dialects.gemini import GEMINI
from gateway.errors import ANTHROPIC, GOOGLE, OPENAI, ErrorShape
from gateway.errors.tree import BadRequest, MethodNotAllowed, ModelMissing, RouteUnknown
from tests.support.calls import understood

Ask = Callable[..., Request]
ALLOWED = re.compile(
    r"/v1beta/models(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,127}:(?:generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents))?"
)

# What SDKs do: the base URL given, and the paths that the SDKs make of it.
BASE_URL_MISTAKES = [
    (b"http://gw", [b"/v1/models", b"/v1beta/models", b"/models"]),
    (b"http://gw/", [b"/v1/models", b"/v1beta/models", b"//v1beta/models", b"//models", b"/models"]),
    (b"http://gw/v1beta", [b"/v1beta/v1/models", b"/v1beta/v1beta/models", b"/v1beta/models"]),
    (b"http://gw/v1beta/", [b"/v1beta//v1beta/models", b"/v1beta//models", b"/v1beta/v1/models"]),
    (b"http://gw/v1alpha", [b"/v1alpha/models", b"/v1alpha/v1beta/models"]),
]
HOSTILE = [
    b"..%2f", b"%2e%2e", b"%2e%2e%2fv1", b"%252f", b"%252e%252e", b"x%2f..%2fy", b"x%23f", b"x%3Fkey=evil", b"x;y",
    b"x%3By", b"x\\y", b"x%5Cy", b"x@evil.com", b"%40evil", b"x%00", b"%00", b"x%0d%0aY=1", b"x%0a", b"x%0D", b"x\r\n",
    b"x\x00", b"\xe2\x80\xaex", b"%E2%80%AEx", b"%ef%bc%8fx", b"x y", b"x%20y", b"x+y", b".x", b"-x", b"_x",
    b"..", b".", b"%", b"%zz", b"x%2", b"a" * 129, b"a" * 300, b"a" * 15_000,
    b"{model}", b"%7Bmodel%7D", b"*", b"gemini*",
    b"$x", b"~x", b"models%2Fx", b"x%3Ay%3Az", b"\xff", b"%FF", b"x'--", b'x"', b"<x>", b"x|y", b"x&y=1", b"x=1",
    b"%C0%AF", b"x%E2%80%A8", b"gemini%252D2.5", b"%2567emini", b"%25",
]  # fmt: skip


@pytest.mark.parametrize(("base", "prefixes"), BASE_URL_MISTAKES)
@pytest.mark.parametrize("colon", [b":", b"%3A", b"%3a"])
@pytest.mark.parametrize("end", [b"", b"/", b"//"])
def test_base_url_mistakes(
    *, ask: Ask, client: Client, base: bytes, prefixes: list[bytes], colon: bytes, end: bytes
) -> None:
    """Every path that a real SDK makes of a mistaken base URL is understood, and the upstream's is always the same."""
    for prefix in prefixes:
        request = ask(prefix + b"/gemini-2.5-flash" + colon + b"generateContent" + end)
        call = understood(GEMINI, request, b"{}", client)
        assert ("generateContent", "gemini-2.5-flash") == (call.operation.name, call.model)
        assert "/v1beta/models/gemini-2.5-flash:generateContent" == call.upstream.target
        assert GEMINI.route(ask(prefix + end, "GET", x_goog_api_key="K")) is not None


@pytest.mark.parametrize(
    "path",
    [
        b"", b"/", b"*", b"models", b"/v1beta", b"/v1beta/modelsx", b"/v2/models", b"/V1beta/models", b"/v1beta/Models",
        b"/gemini/models", b"/v1beta/../models", b"/v1beta%2fmodels", b"http://evil/v1beta/models",
        b"/v1beta/models/m:",
        b"/v1beta/models/m:predict", b"/v1beta/models/m:generatecontent", b"/v1beta/models/m:generateContent:x",
        b"/v1beta/models:generateContent", b"/v1beta/models/x/y:generateContent", b"/v1beta/models/x:generateContent?a",
        b"/v1beta/models/x:generateContent/../../v1/y", b"/v1beta/models/x:generateContent\n", b"/ws/google.ai",
        b"/v1beta/models/x:generateContent%0a", b"/v1beta/models/x:generateContent#",
        b"/v1beta/tunedModels/x:generateContent",
        b"/upload/v1beta/files", b"/v1beta/files", b"/v1beta/interactions", b"/v1/chat/completions",
    ],
)  # fmt: skip
def test_other_paths_are_not_ours(ask: Ask, path: bytes) -> None:
    """P1: whatever the one pattern does not match in full is not Gemini's, with any method."""
    assert [None, None] == [GEMINI.route(ask(path, http_method)) for http_method in ("GET", "POST")]


@pytest.mark.parametrize("segment", HOSTILE)
def test_hostile_models(ask: Ask, segment: bytes) -> None:
    """P1: traversal, splitting and doubly encoded names are a bad request, and the text is not reflected."""
    for path in (b"/v1beta/models/" + segment + b":generateContent", b"/v1/models/" + segment):
        route = GEMINI.route(ask(path, "POST" if b":" in path else "GET"))
        if route is None:  # `x:y` and the like name an unknown action
            continue
        assert route.refusal is not None
        refusal = route.refusal()
        assert isinstance(refusal, BadRequest)
        assert "letters, digits" in refusal.message


segments = st.binary(max_size=40) | st.text(max_size=20).map(lambda text: quote(text, safe="").encode())


@given(
    before=st.sampled_from([b"", b"/v1", b"/v1beta/", b"//v1alpha"]),
    segment=segments,
    end=segments,
    http_method=st.sampled_from(["GET", "POST"]),
    query=st.binary(max_size=40),
)
@example(before=b"/v1beta", segment=b"x:generateContent/../../v1/y", end=b"", http_method="POST", query=b"")
def test_only_allowed_targets(
    *, ask: Ask, client: Client, before: bytes, segment: bytes, end: bytes, http_method: str, query: bytes
) -> None:
    """P1, P7: whatever the path and the query, the upstream's are from the allowed set."""
    for path in (before + b"/models/" + segment + b":generateContent" + end, before + b"/models/" + segment + end):
        request = ask(path, http_method, query)
        try:
            call = understood(GEMINI, request, b"", client)
        except (BadRequest, ModelMissing, MethodNotAllowed, RouteUnknown):
            continue
        target, _, crossing = call.upstream.target.partition("?")
        assert ALLOWED.fullmatch(target)
        assert re.fullmatch(r"(?:alt=sse)?|(?:pageSize=\d+)?&?(?:pageToken=[A-Za-z0-9._~%-]+)?", crossing)


def test_empty_model(ask: Ask) -> None:
    """The vendor's own sample names no model: that is said, and is not a 404."""
    route = GEMINI.route(ask(b"/v1beta/models/:generateContent"))
    assert route is not None
    assert ModelMissing is route.refusal


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "nano-banana-pro", "a", "G_1.x-y", "a" * 128])
def test_models(ask: Ask, model: str) -> None:
    """A model is decoded once, also where every byte of it is percent-encoded."""
    encoded = b"".join(b"%%%02x" % byte for byte in model.encode())
    for raw in (model.encode(), encoded):
        route = GEMINI.route(ask(b"/v1beta/models/" + raw, "GET"))
        assert route is not None
        assert ("getModel", model) == (route.operation.name, route.model)


@pytest.mark.parametrize(
    ("path", "http_method", "allowed"),
    [
        (b"/v1beta/models/m:generateContent", "GET", "POST"),
        (b"/v1beta/models/m:generateContent", "HEAD", "POST"),
        (b"/v1beta/models/m:countTokens", "PUT", "POST"),
        (b"/v1beta/models", "POST", "GET, HEAD"),
        (b"/v1beta/models/m", "DELETE", "GET, HEAD"),
    ],
)
def test_wrong_method(ask: Ask, path: bytes, http_method: str, allowed: str) -> None:
    """P11: a known path with another method is a 405 that names the right ones."""
    with pytest.raises(MethodNotAllowed) as refusal:
        Router([GEMINI]).find(ask(path, http_method))
    assert allowed == refusal.value.allow


@pytest.mark.parametrize(
    ("path", "query", "headers", "whose"),
    [
        (b"/v1/models", b"", {"authorization": "Bearer K"}, OPENAI),
        (b"//v1//models/", b"pageSize=5", {}, OPENAI),
        (b"/v1/models", b"", {"x_api_key": "K"}, ANTHROPIC),
        (b"/v1/models", b"", {"anthropic_version": "2023-06-01", "authorization": "Bearer K"}, ANTHROPIC),
        (b"/v1/models", b"", {"x_api_key": "K", "authorization": "Bearer K"}, OPENAI),
        (b"/v1/models", b"", {"x_goog_api_key": "K"}, GOOGLE),
        (b"/v1/models", b"", {"x_goog_api_client": "google-genai-sdk/3.4.0", "authorization": "Bearer K"}, GOOGLE),
        (b"/v1/models", b"pageSize=5&key=K", {}, GOOGLE),
        (b"/v1beta/models", b"", {"authorization": "Bearer K"}, GOOGLE),
        (b"/v1beta/openai/models", b"", {"authorization": "Bearer K"}, OPENAI),
        (b"/openai/v1/models", b"", {"x_goog_api_key": "K"}, OPENAI),
        (b"/v1alpha/models", b"", {}, GOOGLE),
        (b"/models", b"", {}, GOOGLE),
        (b"/models", b"", {"x_stainless_lang": "python", "authorization": "Bearer K"}, OPENAI),
        (b"/models", b"", {"x_stainless_lang": "js", "anthropic_version": "2023-06-01"}, ANTHROPIC),
    ],
)
def test_whose_list(ask: Ask, path: bytes, query: bytes, headers: dict[str, str], whose: ErrorShape) -> None:
    """A list has the shape of whoever asks for it, by the signs of their SDK; without any it is OpenAI's under /v1."""
    for http_method in ("GET", "HEAD"):
        route = Router(ALL).find(ask(path, http_method, query, **headers))
        assert ("listModels", None) == (route.operation.name, route.model)
        assert whose is route.dialect.errors


@pytest.mark.parametrize(
    "path",
    [
        b"/" * 16_000 + b"x",
        b"/models" + b"/" * 16_000 + b"x:",
        b"/models/" + b"%3A" * 5_000 + b"!:",
        b"/v1" * 5_000 + b"x",
    ],
)
def test_no_path_is_slow(ask: Ask, path: bytes) -> None:
    """D11: a path of 16 KiB costs no more than its length; a pattern that tries again would need seconds."""
    begin = time.perf_counter()
    assert GEMINI.route(ask(path, "GET")) is None
    print(f"{1e3 * (time.perf_counter() - begin):.2f} ms")  # noqa: T201  for the reader: a busy machine fails no test
