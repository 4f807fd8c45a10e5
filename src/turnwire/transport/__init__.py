"""The only sockets: bytes and frames, no events."""
