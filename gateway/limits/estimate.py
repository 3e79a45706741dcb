"""How much may a call cost?  The reservation that limits hold until the real usage is known.

Figures are Gemini's own where there are any: a token is about four characters, a picture 258 tokens, a second of
audio 32.  The output is the model's typical one, never more than the caller allows.  A picture is reserved for
every call that could return one, and given back if none comes.
"""

from typing import NamedTuple

from gateway.call import Call
from gateway.config import Catalogue

CHARS_PER_TOKEN = 4
TOKENS_PER_PICTURE = 258
TOKENS_PER_OTHER_MEDIUM = 60 * 32  # as a minute of audio: the length of a clip is not seen in its bytes

MAX_ANSWERS = 8  # Google's own bound of candidateCount; a request that exceeds it is not answered with more


class Estimate(NamedTuple):
    """The expected usage of one call."""

    tokens_in: int = 0
    tokens_out: int = 0
    images: int = 0  # pictures in the answer
    videos: int = 0

    @property
    def requests(self) -> int:
        return 1

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


def estimate(call: Call, catalogue: Catalogue) -> Estimate:
    """Reads what the call asks for; lists and `countTokens` cost no tokens."""
    demand = call.plan.demand
    if call.operation.bills != "tokens":
        return Estimate(videos=demand.videos)
    tokens_in = (
        -(-demand.text_chars // CHARS_PER_TOKEN)
        + demand.images * TOKENS_PER_PICTURE
        + demand.other_media * TOKENS_PER_OTHER_MEDIUM
    )
    if not demand.generates:
        return Estimate(tokens_in=tokens_in)
    output = catalogue.output_tokens(call.model)
    if demand.max_output_tokens is not None:
        output = min(output, max(0, demand.max_output_tokens))
    answers = min(max(1, demand.candidates), MAX_ANSWERS)
    pictures = demand.image_output or demand.unread or catalogue.may_picture(call.model)
    images = answers if pictures else 0
    return Estimate(tokens_in=tokens_in, tokens_out=output * answers, images=images, videos=demand.videos)
