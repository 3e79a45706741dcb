"""How is one item of a response streamed?  Added, filled piece by piece, done."""

from gateway.sandbox.replies import pieces
from gateway.sandbox.wire import Event


def item_events(index: int, item: Event) -> list[Event]:
    """The events of one item; `index` is its place in the output."""
    filled = {"message": _message, "reasoning": _reasoning, "function_call": _call}[item["type"]]
    place = {"item_id": item["id"], "output_index": index}
    events, empty = filled(item, place)
    added = {"type": "response.output_item.added", "output_index": index, "item": empty}
    return [added, *events, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _message(item: Event, place: Event) -> tuple[list[Event], Event]:
    (part,) = item["content"]
    at = {**place, "content_index": 0}
    events = [
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": piece} for piece in pieces(part["text"])),
        {"type": "response.output_text.done", **at, "text": part["text"]},
        {"type": "response.content_part.done", **at, "part": part},
    ]
    return events, {**item, "status": "in_progress", "content": []}


def _reasoning(item: Event, place: Event) -> tuple[list[Event], Event]:
    (part,) = item["summary"]
    at = {**place, "summary_index": 0}
    events = [
        {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}},
        *({"type": "response.reasoning_summary_text.delta", **at, "delta": piece} for piece in pieces(part["text"])),
        {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]},
        {"type": "response.reasoning_summary_part.done", **at, "part": part},
    ]
    return events, {**item, "summary": []}


def _call(item: Event, place: Event) -> tuple[list[Event], Event]:
    words = "response.function_call_arguments"
    events = [{"type": f"{words}.delta", **place, "delta": piece} for piece in pieces(item["arguments"])]
    events.append({"type": f"{words}.done", **place, "arguments": item["arguments"]})
    return events, {**item, "status": "in_progress", "arguments": ""}
