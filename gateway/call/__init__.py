"""What flows through the gateway: a call, what it asks for, what it has cost, and who reads its answer."""

from gateway.call.call import Call, Demand, Kind, Meter, Modality, Permit, Source, Usage

__all__ = ["Call", "Demand", "Kind", "Meter", "Modality", "Permit", "Source", "Usage"]
