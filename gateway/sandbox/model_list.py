"""How does new-api list models on /v1/models?  By who seems to ask, and with its quirks."""

from gateway.sandbox import families, wire
from gateway.sandbox.log import Record
from gateway.sandbox.wire import Answer, Event

PATH = "/v1/models"


def answer(record: Record) -> Answer:
    """The list, or one entry.  What new-api does not have is a 200 with an error in it."""
    name = record.path.removeprefix(PATH).strip("/")
    as_anthropic = bool(record.header(b"x-api-key") and record.header(b"anthropic-version"))
    if name:
        return wire.unary(_entry(name, as_anthropic=as_anthropic))
    if as_anthropic:
        return wire.unary(_anthropic_list())
    if record.header(b"x-goog-api-key") or "key=" in record.query:
        return wire.unary(_unknown(""))  # it looks up one model, whose name is empty
    data = [families.openai_entry(model) for model in families.LISTED]
    return wire.unary({"data": data, "object": "list", "success": True})


def _entry(name: str, *, as_anthropic: bool) -> Event:
    if name not in families.LISTED:
        return _unknown(name)
    return families.anthropic_entry(name) if as_anthropic else families.openai_entry(name)


def _anthropic_list() -> Event:
    data = [families.anthropic_entry(model) for model in families.LISTED]
    return {"data": data, "first_id": data[0]["id"], "has_more": False, "last_id": data[-1]["id"]}


def _unknown(name: str) -> Event:
    message = f"The model '{name}' does not exist"
    error = {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    return {"error": error}
