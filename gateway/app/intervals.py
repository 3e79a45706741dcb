"""How long does a worker wait where no setting says so?"""

from dataclasses import dataclass

from gateway.store import TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """What `create` hands to the parts; all in seconds."""

    body_seconds: float = 60.0  # for a whole body of a request; more only for one that keeps arriving
    listed_seconds: float = 60.0  # how long the upstream's list of models is kept
    shared_poll_seconds: float = 1.0  # in which equal polls of a client get the same answer
    file_idle_seconds: float = 60.0  # of silence within a file that is passed on
    backoff_seconds: float = 0.5  # before an attempt is repeated; see `Upstream`
    trial_seconds: float = 15.0  # for the upstream to answer a trial of a new key
    refused_key_seconds: float = 60.0  # before a new key that was refused is tried again
    unreached_seconds: float = 5.0  # the same where the upstream could not be reached
    store_timeout_seconds: float = TIMEOUT_SECONDS
