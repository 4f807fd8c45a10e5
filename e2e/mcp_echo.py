"""An MCP server over standard input and output with one tool, ``say``: it gives back what it is told.

JSON-RPC 2.0, one object per line (Model Context Protocol, transport "stdio").
"""

import json
import sys
from typing import Any

_TOOL = {
    "name": "say",
    "description": "Says the word.",
    "inputSchema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}


def _result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "echo", "version": "1"},
            }
        case "tools/list":
            return {"tools": [_TOOL]}
        case "tools/call":
            return {"content": [{"type": "text", "text": f"you said {params['arguments']['word']}"}]}
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue  # a notification, which wants no answer
    result = _result(message["method"], message.get("params") or {})
    reply = {"error": {"code": -32601, "message": "unknown method"}} if result is None else {"result": result}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **reply}) + "\n")
    sys.stdout.flush()
