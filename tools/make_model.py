"""Write the scripted model: a language model whose weights are a table of which token follows which.

::

    python tools/make_model.py [OUT.gguf.gz]

An unmodified llama.cpp server runs the file as it runs any model, and every answer is known in advance. The
token embeddings are the unit vectors, the one block adds nothing to them, and the output matrix holds, for each
token, how much each other one is wanted next: what the model says depends on the last token alone. So the chat
template chooses what is said by the token it ends the prompt with. Each entry of `SCRIPT` has two such tokens,
``<|think:name|>`` in front of its reasoning and ``<|answer:name|>`` in front of its answer. They are control
tokens, which llama.cpp does not show. The reasoning ends in the second one, and so does the prompt where reasoning
is switched off (``chat_template_kwargs: {"enable_thinking": false}``).

A table of pairs can't tell two places of the script apart that share a token, so no token is used twice: the
texts are cut into words, and a word that is taken is joined to the next one. A character of several bytes is cut
behind its first, as tokenizers do to rare ones. The tokenizer makes each byte of a prompt one token.

The output is reproducible to the byte. Needs ``gguf`` and ``numpy``.
"""

from __future__ import annotations

import gzip
import re
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

MODEL_FILE = Path(__file__).parent.parent / "src/turnwire/testing/models/scripted.gguf.gz"


class Lines(NamedTuple):
    """What the model says in one situation; ``endless`` answers begin anew where they end."""

    reasoning: str
    answer: str
    endless: bool = False


WEATHER_CALL = """\
<tool_call>
{"name": "get_weather", "arguments": {"city": "Zürich", "unit": "celsius"}}
</tool_call>"""

TIME_CALL = """\
<tool_call>
{"name": "get_time", "arguments": {"zone": "CET"}}
</tool_call>"""

# As the Codex CLI declares its shell.
SHELL_CALL = """\
<tool_call>
{"name": "exec_command", "arguments": {"cmd": "cat weather.txt"}}
</tool_call>"""

# The template below says which of them is chosen when.
SCRIPT = {
    "weather": Lines("Let me think about it. The weather tool knows.", f"I will check:\n{WEATHER_CALL}"),
    "time": Lines("Two tools know that, so I ask both at once.", f"{WEATHER_CALL}\n{TIME_CALL}"),
    "result": Lines("", "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella."),
    "chat": Lines("No tool can help here.", "Hello! Zürich sends you 21 °C and a 🌦 of its own."),
    "count": Lines("This will go on for ever.", "one two three four five six seven eight nine ten\n", endless=True),
    "shell": Lines("A file may say so.", f"Let me look it up.\n{SHELL_CALL}"),
}

# ChatML with tools as Hermes and Qwen write them, which llama.cpp recognises by the literals in it.
CHAT_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- '# Tools\\n\\nYou may call functions. Their signatures stand within <tools></tools>:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools>\\n\\nCall one with a JSON object within <tool_call></tool_call>:\\n<tool_call>\\n' }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.reasoning_content is string %}
            {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- if content or not loop.first %}
                {{- '\\n' }}
            {%- endif %}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- set asked = messages[-1].content | lower if messages[-1].content is string else '' %}
    {%- if messages[-1].role == 'tool' %}
        {%- set situation = 'result' %}
    {%- elif 'count' in asked %}
        {%- set situation = 'count' %}
    {%- elif not tools %}
        {%- set situation = 'chat' %}
    {%- elif 'exec_command' in (tools | tojson) %}
        {%- set situation = 'shell' %}
    {%- elif 'time' in asked %}
        {%- set situation = 'time' %}
    {%- else %}
        {%- set situation = 'weather' %}
    {%- endif %}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<|answer:' + situation + '|>' }}
    {%- else %}
        {{- '<|think:' + situation + '|>' }}
    {%- endif %}
{%- endif %}
"""

START, END = "<|im_start|>", "<|im_end|>"

# How much a token is wanted next: the script's own, then the end of the answer, then what closes a piece of JSON
# soonest. Steps of 20 leave nothing to chance at any usual temperature. The later ones matter where the server puts
# a grammar over the answer, for a JSON schema or for a tool of the caller's own, that forbids the earlier ones.
SCRIPTED, STEP = 20.0, -20.0
FALLBACKS = [END, *'"}],:0{[f']
OTHERS = SCRIPTED + STEP * (len(FALLBACKS) + 1)

HEAD_SIZE = 32  # of the one attention head, which holds nothing but zeros
CONTEXT_SIZE = 1 << 20  # what the model claims to be trained for; the server's own setting is the bound

# A tag with its line ends, or a word with what stands before it; see `cut`.
WORD = re.compile(rb"<[a-z/_]+>\n*|[\x80-\xbf]*[^a-z<\x80-\xff]*[a-z]*[\xc0-\xff]?")


def byte_alphabet() -> list[str]:
    """The character that stands for each of the 256 bytes in a vocabulary of GPT-2's kind."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


ALPHABET = byte_alphabet()


def cut(text: str, taken: set[str]) -> list[str]:
    """The tokens of a text, none of which is in ``taken``; they are added to it."""
    tokens: list[str] = []
    token = ""
    for word in filter(None, WORD.findall(text.encode())):
        token += "".join(ALPHABET[byte] for byte in word)
        if token not in taken:
            taken.add(token)
            tokens.append(token)
            token = ""
    while token in taken and tokens:  # the text ends in words that are taken: they go to the token before them
        token = tokens.pop() + token
    if token in taken:
        raise ValueError(f"the script says {text!r} too often to tell one from the other: word it differently")
    if token:
        taken.add(token)
        tokens.append(token)
    return tokens


class Table(NamedTuple):
    """The vocabulary, and for each token of the script the one that follows it."""

    texts: list[str]
    controls: list[str]
    follows: dict[str, str]

    @classmethod
    def of(cls, script: dict[str, Lines]) -> Table:
        """The table that makes a model say the script."""
        table = cls([*ALPHABET], [START, END], {})
        taken = set(ALPHABET)
        for name, lines in script.items():
            think, answer = f"<|think:{name}|>", f"<|answer:{name}|>"
            thoughts = cut(f"<think>\n{lines.reasoning}</think>\n\n", taken) if lines.reasoning else []
            words = cut(lines.answer, taken)
            table.texts.extend(thoughts + words)
            table.controls.extend([think, answer])
            chain = [think, *thoughts, answer, *words, words[0] if lines.endless else END]
            table.follows.update(pairwise(chain))
        return table

    @property
    def tokens(self) -> list[str]:
        """All tokens, each at the place that its id names."""
        return self.texts + self.controls

    def logits(self) -> np.ndarray:
        """How much each token (row) is wanted after each other (column)."""
        ids = {token: number for number, token in enumerate(self.tokens)}
        logits = np.full((len(ids), len(ids)), OTHERS, np.float32)
        for rank, token in enumerate(FALLBACKS, start=1):
            logits[ids[token], :] = SCRIPTED + STEP * rank
        for token, successor in self.follows.items():
            logits[ids[successor], ids[token]] = SCRIPTED
        return logits


def tensors(logits: np.ndarray) -> dict[str, np.ndarray]:
    """The weights of a one-block llama whose logits after a token are that token's column of ``logits``."""
    size = len(logits)

    def ones(*shape: int) -> np.ndarray:
        return np.ones(shape, np.float32)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    return {
        "token_embd.weight": np.eye(size, dtype=np.float32),
        "blk.0.attn_norm.weight": ones(size),
        "blk.0.attn_q.weight": zeros(HEAD_SIZE, size),
        "blk.0.attn_k.weight": zeros(HEAD_SIZE, size),
        "blk.0.attn_v.weight": zeros(HEAD_SIZE, size),
        "blk.0.attn_output.weight": zeros(size, HEAD_SIZE),
        "blk.0.ffn_norm.weight": ones(size),
        "blk.0.ffn_gate.weight": zeros(1, size),
        "blk.0.ffn_up.weight": zeros(1, size),
        "blk.0.ffn_down.weight": zeros(size, 1),
        "output_norm.weight": ones(size),
        # The final norm makes a unit vector sqrt(size) long.
        "output.weight": logits / np.sqrt(size, dtype=np.float32),
    }


def write_gguf(path: Path, table: Table) -> None:
    """Write the model as llama.cpp reads it."""
    size = len(table.tokens)
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("scripted")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT_SIZE)
    writer.add_vocab_size(size)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(1)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD_SIZE)
    writer.add_value_length(HEAD_SIZE)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(table.tokens)
    writer.add_token_types([normal] * len(table.texts) + [control] * len(table.controls))
    # llama.cpp wants at least one merge: this one joins two bytes that UTF-8 never has.
    writer.add_token_merges([f"{ALPHABET[0xFE]} {ALPHABET[0xFF]}"])
    writer.add_bos_token_id(table.tokens.index(START))
    writer.add_eos_token_id(table.tokens.index(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in tensors(table.logits()).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_model(path: Path) -> None:
    """Write the scripted model, gzipped without name and time, so that the same script gives the same bytes."""
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory, "scripted.gguf")
        write_gguf(model, Table.of(SCRIPT))
        with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            packed.write(model.read_bytes())


if __name__ == "__main__":
    write_model(Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL_FILE)
