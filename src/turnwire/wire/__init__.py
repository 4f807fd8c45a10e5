"""Sans-I/O: bytes to events and back. No sockets, no clock, no event loop."""
