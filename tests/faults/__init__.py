"""What fails around the gateway, or is made to hurt it."""
