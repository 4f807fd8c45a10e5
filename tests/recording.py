"""What unmodified servers answered to ``/v1/chat/completions``: the files under ``tests/recordings``.

A case is four files: ``.sse`` has the body's bytes (of an answer that is no stream too), ``.headers`` the response's
head, ``.request.json`` what was asked, ``.meta.json`` the path, the status and curl's exit code. Dates, durations and
local addresses were left out of the heads; the bodies are untouched.
"""

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

from turnwire.errors import ErrorResponse

_ROOT = Path(__file__).parent / "recordings"


class Recording(Struct, frozen=True):
    """One request and what came back; ``name`` is ``<server>/<case>``."""

    name: str
    status: int
    headers: dict[str, str]
    body: bytes
    request: dict[str, Any]
    curl_exit: int
    """0 where the body ended properly, 18 where it was cut, 28 where it stalled until curl gave up."""

    @classmethod
    def load(cls, name: str) -> "Recording":
        meta = json.loads((_ROOT / f"{name}.meta.json").read_text())
        head = (_ROOT / f"{name}.headers").read_text().splitlines()
        fields = (line.partition(":") for line in head[1:] if line)
        try:
            request = json.loads((_ROOT / f"{name}.request.json").read_bytes())
        except ValueError:
            request = {}  # the request was bad JSON, on purpose
        return cls(
            name=name,
            status=meta["http"],
            headers={field.lower(): value.strip() for field, _, value in fields},
            body=(_ROOT / f"{name}.sse").read_bytes(),
            request=request,
            curl_exit=meta["curl_exit"],
        )

    @property
    def is_stream(self) -> bool:
        return self.status == 200 and self.headers["content-type"].startswith("text/event-stream")

    @property
    def max_output_tokens_set(self) -> bool:
        return "max_tokens" in self.request

    @property
    def error_response(self) -> ErrorResponse:
        return ErrorResponse(self.status, self.headers, self.body.decode())


RECORDINGS = tuple(
    Recording.load(f"{path.parent.name}/{path.name.removesuffix('.meta.json')}")
    for path in sorted(_ROOT.glob("*/*.meta.json"))
)
STREAMS = tuple(recording for recording in RECORDINGS if recording.is_stream)
REFUSALS = tuple(recording for recording in RECORDINGS if recording.status != 200)
ANSWERS = tuple(recording for recording in RECORDINGS if recording.status == 200 and not recording.is_stream)
