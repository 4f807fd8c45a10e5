"""What the scripted llama.cpp model says (see `turnwire.testing.llama`), and its tools in the Responses form."""

from __future__ import annotations

from typing import Any

from turnwire.testing import SCRIPTED_TOOLS

HELLO = "Hello! Zürich sends you 21 °C and a 🌦 of its own."
HELLO_REASONING = "No tool can help here."
CHECK = "I will check:\n"
WEATHER_ARGUMENTS = '{"city": "Zürich", "unit": "celsius"}'
TIME_ARGUMENTS = '{"zone": "CET"}'
RESULT = "It is 21 °C in Zürich with a little rain 🌦, so take an umbrella."

TOOLS: Any = [{"type": "function", **tool["function"]} for tool in SCRIPTED_TOOLS]
CHAT_TOOLS: Any = list(SCRIPTED_TOOLS)
