"""One request's way through the gateway, for each pair of what a client and an upstream speak."""
