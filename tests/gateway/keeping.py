"""What tests of kept responses share: a clock that is set by hand, and responses in a few words."""

from __future__ import annotations

from typing import Any

from turnwire.gateway.store import StoredResponse

TENANT = "tenant-a"


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def said(text: str, item_id: str = "") -> dict[str, Any]:
    """An assistant's message."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "type": "message",
        "id": item_id or f"msg_{text}",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


def asked(text: str) -> dict[str, Any]:
    """A user's message, in the API's short form."""
    return {"role": "user", "content": text}


def document(response_id: str, *output: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    """A ``response`` object."""
    return {"id": response_id, "object": "response", "status": status, "output": list(output), **fields}


def turn(response_id: str, question: str, answer: str, previous: str | None = None) -> StoredResponse:
    """A kept response: one question, one answer."""
    return StoredResponse.of(
        document(response_id, said(answer)), input_items=[asked(question)], previous_response_id=previous
    )
