"""The client: where wire and transport meet."""

from turnwire.client.configuration import find_provider, load_providers
from turnwire.client.model_client import ModelClient
from turnwire.client.provider import Provider
from turnwire.client.session import ModelClientSession
from turnwire.client.stream import ResponseStream
from turnwire.client.tool import Tool
from turnwire.client.turn import TurnResult, run_turn
from turnwire.client.turn_state import TURN_STATE_HEADER, TurnState

__all__ = [
    "TURN_STATE_HEADER",
    "ModelClient",
    "ModelClientSession",
    "Provider",
    "ResponseStream",
    "Tool",
    "TurnResult",
    "TurnState",
    "find_provider",
    "load_providers",
    "run_turn",
]
