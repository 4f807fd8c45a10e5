"""What a response's headers tell."""

from turnwire.event import ModelsEtag, RateLimits, ServerModel
from turnwire.wire.responses import events_from_headers


def test_headers_become_events():
    assert events_from_headers(
        {
            "X-Codex-Primary-Used-Percent": "3",
            "x-codex-secondary-window-minutes": "10080",
            "x-ratelimit-remaining-requests": "59",
            "X-Models-Etag": '"7"',
            "OpenAI-Model": "gpt-9",
            "x-codex-turn-state": "secret",
            "content-type": "text/event-stream",
        }
    ) == [
        RateLimits({"primary-used-percent": "3", "secondary-window-minutes": "10080", "remaining-requests": "59"}),
        ModelsEtag('"7"'),
        ServerModel("gpt-9"),
    ]


def test_headers_that_say_nothing_are_no_events():
    assert events_from_headers({"x-codex-turn-state": "t", "x-models-etag": "", "openai-model": ""}) == []
