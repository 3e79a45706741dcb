"""What may this client see of the upstream's list of models, in OpenAI's and in Anthropic's shape?

Both are made of the same list, the upstream's `/v1/models`.  Each entry keeps the upstream's own members and gains
those of the other shape, so that a tool which reads either finds what it looks for.
"""

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec
from msgspec import Raw

from gateway.asgi import Request
from gateway.call import Call, Dialect, ListedModel, ModelPage, Operation, Plan, Route
from gateway.dialects.json_body import is_model_name, wrong_name
from gateway.dialects.paths import pattern_of
from gateway.errors import BadRequest, ModelUnknown
from gateway.framing import decoded

ROOT: Final = "/v1/models"
MAX_PAGE_MODELS = 1000  # as Anthropic has it
LIST_MODELS = Operation(name="listModels", http=("GET", "HEAD"), takes="nothing", lists=True)
GET_MODEL = Operation(name="getModel", http=("GET", "HEAD"), takes="nothing", lists=True)

_PATH = pattern_of(["models"], behind=rb"(?:/++(?P<model>[^/:]++))?+")
_DIGITS = re.compile(r"[0-9]{1,4}")


class _Page(msgspec.Struct):
    data: list[Raw]


class _Model(msgspec.Struct):
    id: str


_PAGE = msgspec.json.Decoder(_Page)
_MODEL = msgspec.json.Decoder(_Model)
_ENTRY = msgspec.json.Decoder(dict[str, Any])


class OpenAIModels:
    """The list as OpenAI's SDKs read it."""

    target: Final = ROOT
    query: Final = ""

    def read(self, body: bytes) -> ModelPage:
        return ModelPage([ListedModel(decoded(_MODEL, one).id, one) for one in decoded(_PAGE, body).data])

    def page_wanted(self, call: Call) -> str | None:  # noqa: ARG002  the list has no pages
        return None

    def answer(self, call: Call, pages: Sequence[ModelPage]) -> bytes:
        if call.model:
            return msgspec.json.encode(_openais(_found(call, pages)))
        return msgspec.json.encode({"object": "list", "data": [_openais(one) for one in _usable(call, pages)]})


class AnthropicModels(OpenAIModels):
    """The list as Anthropic's SDKs read it, who ask for a page behind or before a model."""

    def answer(self, call: Call, pages: Sequence[ModelPage]) -> bytes:
        if call.model:
            return msgspec.json.encode(_anthropics(_found(call, pages)))
        models, more = _cut([_anthropics(one) for one in _usable(call, pages)], call.plan.query)
        ends = (models[0]["id"], models[-1]["id"]) if models else (None, None)
        said = {"data": models, "has_more": more, "first_id": ends[0], "last_id": ends[1]}
        return msgspec.json.encode(said)


def _usable(call: Call, pages: Sequence[ModelPage]) -> list[ListedModel]:
    return [one for page in pages for one in page.models if call.client.may_use(one.name)]


def _found(call: Call, pages: Sequence[ModelPage]) -> ListedModel:
    usable = {one.name: one for one in _usable(call, pages)}
    if call.model not in usable:
        raise ModelUnknown.beside(call.model, usable)
    return usable[call.model]


def _openais(model: ListedModel) -> dict[str, Any]:
    entry = decoded(_ENTRY, model.entry)
    defaults = {"object": "model", "created": 0, "owned_by": "upstream", "type": "model", "display_name": model.name}
    return {**entry, **{name: value for name, value in defaults.items() if entry.get(name) in (None, "")}}


def _anthropics(model: ListedModel) -> dict[str, Any]:
    entry = _openais(model)
    created = entry["created"] if isinstance(entry["created"], int) and 0 <= entry["created"] < 2**32 else 0
    at = dt.datetime.fromtimestamp(created, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**entry, "type": "model", "created_at": entry.get("created_at") or at}


def _cut(models: list[dict[str, Any]], query: str) -> tuple[list[dict[str, Any]], bool]:
    """The page that is asked for, and whether there are more in that direction.  Raises `BadRequest`."""
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    limit = asked.get("limit", str(MAX_PAGE_MODELS))
    if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= MAX_PAGE_MODELS:
        raise BadRequest(f"`limit` is a number from 1 to {MAX_PAGE_MODELS}.")
    if "before_id" in asked:
        models = models[: _position(models, asked["before_id"])]
        return models[-int(limit) :], len(models) > int(limit)
    if "after_id" in asked:
        models = models[_position(models, asked["after_id"]) + 1 :]
    return models[: int(limit)], len(models) > int(limit)


def _position(models: list[dict[str, Any]], name: str) -> int:
    for at, model in enumerate(models):
        if model["id"] == name:
            return at
    raise BadRequest(f"No model of this list is called {name}. Send an id of the page before.")


def list_route(dialect: Dialect, request: Request) -> Route | None:
    """Where a path leads that asks for the list, or for one model of it; None for any other."""
    found = _PATH.fullmatch(request.raw_path)
    if found is None:
        return None
    if found["model"] is None:
        return Route(dialect=dialect, operation=LIST_MODELS, target=ROOT)
    model = unquote(found["model"].decode("latin-1"))
    refusal = None if is_model_name(model) else wrong_name
    return Route(dialect=dialect, operation=GET_MODEL, target=ROOT, model=model, refusal=refusal)


def list_plan(route: Route, request: Request) -> Plan:
    """What is asked of a list: paging, which does not cross."""
    return Plan(model=route.model or "", query=request.query.decode("latin-1"))


OPENAI_MODELS: Final = OpenAIModels()
ANTHROPIC_MODELS: Final = AnthropicModels()
