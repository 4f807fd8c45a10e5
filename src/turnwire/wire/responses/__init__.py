"""Responses: requests and answers, both ways."""

from turnwire.wire.responses.decoder import ResponsesDecoder
from turnwire.wire.responses.encoder import ResponsesEncoder
from turnwire.wire.responses.event_writer import Framing
from turnwire.wire.responses.failure import encode_error_frame, encode_failure
from turnwire.wire.responses.header import events_from_headers
from turnwire.wire.responses.received import ReceivedRequest, decode_response_request
from turnwire.wire.responses.request import ResponsesRequest, encode_response_request
from turnwire.wire.responses.response_object import ResponseObject

__all__ = [
    "Framing",
    "ReceivedRequest",
    "ResponseObject",
    "ResponsesDecoder",
    "ResponsesEncoder",
    "ResponsesRequest",
    "decode_response_request",
    "encode_error_frame",
    "encode_failure",
    "encode_response_request",
    "events_from_headers",
]
