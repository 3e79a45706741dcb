"""What flows through the gateway: a call, what it asks for, what it has cost, and who reads its answer."""

from gateway.call.call import Asked, Call, Kind, Meter, Modality, Permit, Source, Usage

__all__ = ["Asked", "Call", "Kind", "Meter", "Modality", "Permit", "Source", "Usage"]
