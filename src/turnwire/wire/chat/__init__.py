"""Chat Completions: requests and responses, both ways."""

from turnwire.wire.chat.decoder import ChatDecoder, decode_completion
from turnwire.wire.chat.dialect import ChatDialect, ReasoningName
from turnwire.wire.chat.request import EncodedRequest, encode_request
from turnwire.wire.chat.response import ChatEncoder

__all__ = [
    "ChatDecoder",
    "ChatDialect",
    "ChatEncoder",
    "EncodedRequest",
    "ReasoningName",
    "decode_completion",
    "encode_request",
]
