"""The streaming layer of an agent's model turn."""
