"""The gateway: what clients of either API talk to in front of model servers that may only know one of them."""
