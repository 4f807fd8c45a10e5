"""Streams of every outcome, as records."""

from turnwire.event import TokenUsage
from turnwire.telemetry import RetryRecord, StreamRecord

COMPLETED = StreamRecord(
    provider="mistral",
    base_url="https://api.mistral.ai/v1",
    model="large",
    wire="chat",
    outcome="completed",
    duration=4.0,
    time_to_first_output=3.0,
    response_id="chatcmpl-1",
    token_usage=TokenUsage(100, 60, 20, 5, 120),
    finish_reason="stop",
    committed=True,
    retries=(RetryRecord("request", "ServerOverloaded", 0.5, 0.25), RetryRecord("stream", "Disconnected", 1.0, 0.5)),
)
INCOMPLETE = StreamRecord(
    provider="openai",
    base_url="https://api.openai.com/v1",
    model="small",
    wire="responses",
    outcome="incomplete",
    duration=2.0,
    time_to_first_output=1.0,
    response_id="resp_1",
    token_usage=TokenUsage(10, 0, 8, 0, 18),
    finish_reason="incomplete",
    incomplete_reason="max_output_tokens",
    committed=True,
)
FAILED = StreamRecord(
    provider="mine",
    base_url="http://10.0.0.5:8000/v1",
    model="small",
    wire="websocket",
    outcome="failed",
    duration=0.5,
    error="RateLimited",
)
ABANDONED = StreamRecord(
    provider="mine",
    base_url="http://[::1]/v1",
    model="small",
    wire="chat",
    outcome="abandoned",
    duration=8.0,
    time_to_first_output=0.5,
    committed=True,
)
