"""May they?  The limits of every client, held by all workers together."""

from gateway.limits.client_limits import CLIENTS, FORMAT, PROBE, key
from gateway.limits.corrections import Correction
from gateway.limits.limits import UNREAD, Limits

__all__ = ["CLIENTS", "FORMAT", "PROBE", "UNREAD", "Correction", "Limits", "key"]
