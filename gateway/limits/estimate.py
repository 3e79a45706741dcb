"""How much may a call cost?  The reservation that limits hold until the real usage is known.

A token is about four characters; the rest is planning figures of the model, from the catalogue.  Other media are
reserved as a minute of audio each (32 tokens a second): neither the length of a clip nor the pages of a document are
seen in their bytes.  The output is the model's typical one, never more than the caller allows.  A picture is reserved
for every call that could return one, and given back if none comes.
"""

from typing import NamedTuple

from gateway.call import Call, Demand
from gateway.config import Catalogue, Model

CHARS_PER_TOKEN = 4
TOKENS_PER_OTHER_MEDIUM = 60 * 32  # a page of a document, 2000, is nearly the same
USUAL_PIXELS = 1280 * 720  # of a frame, to which the catalogue's tokens a second of a video belong
MAX_SECONDS, MAX_PIXELS = 3600, 2**26

MAX_TOKENS = 2**30  # of each direction: whatever a caller writes, the sum is a number that every store holds exactly


class Estimate(NamedTuple):
    """The expected usage of one call."""

    tokens_in: int = 0
    tokens_out: int = 0
    images: int = 0  # pictures in the answer
    videos: int = 0
    requests: int = 1

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


def estimate(call: Call, catalogue: Catalogue) -> Estimate:
    """Reads what the call asks for; what bills nothing, such as lists and `countTokens`, costs no tokens."""
    demand, model = call.plan.demand, catalogue.find(call.model)
    match call.operation.bills:
        case "tokens":
            pictures = demand.image_output or demand.unread or model.makes_pictures
            images = answers_of(demand, model) * (pictures and demand.generates and call.operation.pictures)
            return Estimate(input_of(demand, model), output_of(demand, model), images, demand.videos)
        case "request":
            return Estimate(images=answers_of(demand, model) * (demand.image_output or model.kind == "image"))
        case "task":
            return Estimate(tokens_out=video_of(demand, model), videos=demand.videos)
        case "nothing":
            return Estimate(requests=0 if call.operation.task == "reads" else 1)  # those have an allowance of their own


def input_of(demand: Demand, model: Model) -> int:
    """Tokens of what is put in."""
    text = -(-max(0, demand.text_chars) // CHARS_PER_TOKEN) + max(0, demand.tokens)
    media = max(0, demand.images) * model.picture_in + max(0, demand.other_media) * TOKENS_PER_OTHER_MEDIUM
    return min(text + media, MAX_TOKENS)


def output_of(demand: Demand, model: Model) -> int:
    """Tokens of all answers."""
    if not demand.generates:
        return 0
    output = model.answer_tokens
    if demand.max_output_tokens is not None:
        output = min(output, max(0, demand.max_output_tokens))
    return min(output * answers_of(demand, model), MAX_TOKENS)


def video_of(demand: Demand, model: Model) -> int:
    """Tokens of a video: of its seconds, and of the size of its frames beside that of the planning figures."""
    seconds = model.seconds if demand.seconds is None else min(max(0, demand.seconds), MAX_SECONDS)
    pixels = USUAL_PIXELS if demand.pixels is None else min(max(0, demand.pixels), MAX_PIXELS)
    return min(model.output_tokens + seconds * model.tokens_per_second * pixels // USUAL_PIXELS, MAX_TOKENS)


def answers_of(demand: Demand, model: Model) -> int:
    """How many answers there will be: a request for more than the model gives is not answered with more."""
    return min(max(1, demand.candidates), model.max_answers)
