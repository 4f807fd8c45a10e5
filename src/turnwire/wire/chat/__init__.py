"""Chat Completions: requests and responses, both ways."""

from turnwire.wire.chat.answer_writer import ChatAnswerWriter
from turnwire.wire.chat.decoder import ChatDecoder, decode_completion
from turnwire.wire.chat.dialect import ChatDialect, ReasoningName
from turnwire.wire.chat.received import ReceivedChatRequest, decode_chat_request
from turnwire.wire.chat.request import EncodedRequest, encode_request
from turnwire.wire.chat.response import ChatEncoder

__all__ = [
    "ChatAnswerWriter",
    "ChatDecoder",
    "ChatDialect",
    "ChatEncoder",
    "EncodedRequest",
    "ReasoningName",
    "ReceivedChatRequest",
    "decode_chat_request",
    "decode_completion",
    "encode_request",
]
