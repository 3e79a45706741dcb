"""How is an error of ours written?  As Google's API writes its own, on every route.

So Google's SDKs raise their own exceptions and wait as told.
"""

import json

from gateway.errors.tree import GatewayError

DOMAIN = "tokenhot-gateway"
TYPES = "type.googleapis.com/google.rpc"


def written(error: GatewayError, client_name: str | None = None) -> bytes:
    """Write it as JSON, with ErrorInfo, and with RetryInfo where there is a time to wait."""
    metadata = {**error.metadata, **({"client": client_name} if client_name else {})}
    details: list[dict[str, object]] = [
        {"@type": f"{TYPES}.ErrorInfo", "reason": error.reason, "domain": DOMAIN, "metadata": metadata}
    ]
    if error.retry_after is not None:
        details.append({"@type": f"{TYPES}.RetryInfo", "retryDelay": f"{error.retry_after}s"})
    said = {"code": error.code, "status": error.status, "message": error.message, "details": details}
    return json.dumps({"error": said}).encode()
