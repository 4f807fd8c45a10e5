"""How an answer is asked for over Chat Completions."""

from __future__ import annotations

from turnwire.client.provider import Provider
from turnwire.client.requester import Requester
from turnwire.client.stream import Asked, OnPoll
from turnwire.client.watch import StreamWatch
from turnwire.prompt import Prompt
from turnwire.wire.answer_decoder import AnswerDecoder
from turnwire.wire.chat import ChatDecoder, ReasoningName, encode_request

__all__ = ["ChatAsker"]

_PATH = "chat/completions"


class ChatAsker:
    """Asks over Chat Completions. ``reasoning_names`` is where a server's name for reasoning is kept, by model."""

    def __init__(
        self,
        provider: Provider,
        requester: Requester,
        prompt: Prompt,
        *,
        model: str,
        watch_calls: bool,
        reasoning_names: dict[str, ReasoningName],
        on_poll: OnPoll | None,
        watch: StreamWatch | None = None,
    ) -> None:
        self._provider = provider
        self._requester = requester
        self._prompt = prompt
        self._model = model
        self._watch_calls = watch_calls
        self._reasoning_names = reasoning_names
        self._on_poll = on_poll
        self._watch = watch
        request = encode_request(
            prompt, model=model, dialect=provider.dialect, reasoning_name=reasoning_names.get(model)
        )
        self._request = request
        self.dropped = request.dropped

    async def ask(self) -> Asked:
        """One request, under the turn's token."""
        response = await self._requester.post(_PATH, self._request.body, self._watch)
        answers = self._prompt.extra.get("n")
        decoder = ChatDecoder(
            self._provider.dialect,
            max_output_tokens_set=_is_bounded(self._prompt),
            watch_calls=self._watch_calls,
            max_event_size=self._provider.max_event_size,
            choices=answers if isinstance(answers, int) else 1,
            taken_call_ids=self._request.call_ids,
            refuse_bare_end=True,
            tools=self._request.tools,
        )
        return Asked(response, decoder, on_poll=self._on_poll)

    def ended(self, decoder: AnswerDecoder) -> None:
        """What an answer taught for later requests: how this server calls its reasoning."""
        if isinstance(decoder, ChatDecoder) and decoder.reasoning_name is not None:
            self._reasoning_names[self._model] = decoder.reasoning_name


def _is_bounded(prompt: Prompt) -> bool:
    return prompt.max_output_tokens is not None or not prompt.extra.keys().isdisjoint(
        ("max_tokens", "max_completion_tokens")
    )
