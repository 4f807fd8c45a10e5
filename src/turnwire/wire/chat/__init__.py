"""Chat Completions: requests and responses, both ways."""

from turnwire.wire.chat.decoder import ChatDecoder, decode_completion
from turnwire.wire.chat.dialect import ChatDialect

__all__ = ["ChatDecoder", "ChatDialect", "decode_completion"]
