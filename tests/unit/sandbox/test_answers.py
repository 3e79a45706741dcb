"""Does the sandbox answer as the vendor does?"""

import math

import pytest

from .conftest import Caller, text_of


def test_text_quotes_the_prompt(caller: Caller) -> None:
    """A text model answers with the prompt in it, ends with STOP and names the model."""
    answer = caller.said("Wie heißt der Fuchs? 🦊")
    assert "“Wie heißt der Fuchs? 🦊”" in text_of(answer)
    assert "STOP" == answer["candidates"][0]["finishReason"]
    assert "gemini-2.5-flash" == answer["modelVersion"]


def test_same_question_same_text_another_nonce(caller: Caller) -> None:
    """A9: the text is decided by the prompt, and every answer is unique."""
    first, second = caller.said("twice"), caller.said("twice")
    assert text_of(first) == text_of(second)
    assert first["responseId"] != second["responseId"]


def test_usage_adds_up(caller: Caller) -> None:
    """Four characters are a token, a picture is 258, and the total is the sum by modality."""
    picture = {"inline_data": {"mime_type": "image/png", "data": "AAAA"}}
    answer = caller.said(
        "",
        contents=[{"parts": [{"text": "12345678"}, picture, picture]}],
        system_instruction={"parts": [{"text": "1234"}]},
    )
    usage = answer["usageMetadata"]
    prompt = [{"modality": "TEXT", "tokenCount": 3}, {"modality": "IMAGE", "tokenCount": 516}]
    assert prompt == usage["promptTokensDetails"]
    assert 519 == usage["promptTokenCount"]
    assert math.ceil(len(text_of(answer)) / 4) == usage["candidatesTokenCount"]
    assert usage["promptTokenCount"] + usage["candidatesTokenCount"] == usage["totalTokenCount"]
    assert "2 pictures" in text_of(answer)


def test_candidate_count_is_honoured(caller: Caller) -> None:
    """Each candidate has its index, its end and its part in the usage; snake and camel case mean the same."""
    answer = caller.said("three", generationConfig={"candidate_count": 3})
    assert [0, 1, 2] == [candidate["index"] for candidate in answer["candidates"]]
    characters = sum(len(text_of(answer, candidate)) for candidate in range(3))
    assert math.ceil(characters / 4) == answer["usageMetadata"]["candidatesTokenCount"]
    assert 400 == caller.call("none", generationConfig={"candidateCount": 0}).status_code


def test_size_marker_decides_the_length(caller: Caller) -> None:
    """A benchmark gets a text of exactly the size it names."""
    assert 12_345 == len(text_of(caller.said("sandbox-size: 12345")).encode())


def test_count_tokens(caller: Caller) -> None:
    """CountTokens counts the contents, also those that some clients wrap."""
    contents = [{"parts": [{"text": "x" * 40}]}]
    assert 10 == caller.said("", method="countTokens", contents=contents)["totalTokens"]
    wrapped = {"generateContentRequest": {"contents": contents}, "contents": []}
    assert 10 == caller.said("", method="countTokens", **wrapped)["totalTokens"]


def test_embeddings_are_unit_vectors(caller: Caller) -> None:
    """The same text has the same vector, alone and in a batch; another text has another one."""
    fox, owl = ({"content": {"parts": [{"text": word}]}, "outputDimensionality": 64} for word in ("fox", "owl"))
    model = "gemini-embedding-001"
    alone = caller.said("", model=model, method="embedContent", **fox)["embedding"]["values"]
    batch = caller.said("", model=model, method="batchEmbedContents", requests=[fox, owl])["embeddings"]
    assert 64 == len(alone)
    assert abs(math.hypot(*alone) - 1) < 1e-4
    assert alone == batch[0]["values"] != batch[1]["values"]


def test_models_are_listed_in_pages(caller: Caller) -> None:
    """The list pages as Google's does: nextPageToken is missing on the last page, and only there."""
    names, token = [], ""
    while True:
        page = caller.http.get("/v1beta/models", params={"pageSize": 5, "pageToken": token}).json()
        assert len(page["models"]) <= 5
        names += [model["name"] for model in page["models"]]
        if not (token := page.get("nextPageToken", "")):
            break
    whole = caller.http.get("/v1beta/models").json()
    assert [model["name"] for model in whole["models"]] == names
    assert "models/gemini-2.5-flash-image" in names
    entry = caller.http.get("/v1beta/models/gemini-embedding-001").json()
    assert "embedContent" in entry["supportedGenerationMethods"]
    assert 400 == caller.http.get("/v1beta/models?pageToken=x").status_code


@pytest.mark.parametrize(
    ("path", "headers", "body", "expected"),
    [
        ("models/gemini-9:generateContent", {}, b"{}", (503, "new_api_error", "model_not_found")),
        ("models/:generateContent", {}, b"{}", (503, "new_api_error", "model_not_found")),
        ("models/gemini-2.5-flash:generateContent", {"authorization": "Bearer no"}, b"{}", (401, "new_api_error", "")),
        ("models/gemini-2.5-flash:generateContent", {"authorization": ""}, b"{}", (401, "new_api_error", "")),
        ("models/gemini-2.5-flash:generateContent", {}, b'{"cont', (400, "new_api_error", "invalid_request")),
        ("models/gemini-2.5-flash:generateContent", {}, b"[]", (400, "new_api_error", "invalid_request")),
        ("models/gemini-2.5-flash:generateContent", {}, b"[" * 100_000, (400, "new_api_error", "invalid_request")),
        ("models/gemini-2.5-flash:embedContent", {}, b"{}", (400, "new_api_error", "invalid_request")),
        ("models/gemini-2.5-flash/generateContent", {}, b"{}", (404, "invalid_request_error", "")),
    ],
)
def test_refusals_have_the_vendors_shape(
    caller: Caller, path: str, headers: dict[str, str], body: bytes, expected: tuple[int, str, str]
) -> None:
    """U19: a refusal is new-api's JSON, and an unknown model is a 503."""
    response = caller.http.post(f"/v1beta/{path}", content=body, headers=headers)
    error = response.json()["error"]
    assert expected == (response.status_code, error["type"], error["code"])
    assert "" == error["param"]
    assert f"(request id: {caller.log()[0]['nonce']})" in error["message"]
