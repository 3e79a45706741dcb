"""Has the vendor a channel for a model, and is it one for this route?"""

from gateway.sandbox import families
from gateway.sandbox.call import Call
from gateway.sandbox.refusals import middleware_refusal
from gateway.sandbox.wire import Answer


def refused(call: Call, model: str, kind: str) -> Answer | None:
    """The vendor's refusal of a model that it does not have.  `ValueError` when the model is of another kind."""
    call.record.model = model
    if not model:
        return middleware_refusal(400, "Model name not specified", call.record, code="invalid_request")
    known = families.kind(model)
    if known is None:
        message = f"No available channel for model {model} under group default"
        return middleware_refusal(503, message, call.record, code="model_not_found")
    if known != kind:
        raise ValueError(f"{model} does not support {call.record.path}")
    return None
