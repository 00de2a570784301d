"""The rules of the envelope, as a program that reads it would rely on them."""

from __future__ import annotations

from typing import Any

KEYS = {"ok", "command", "result", "error", "fix", "next_actions"}


def check_envelope(envelope: Any) -> None:
    """Fail unless this is an envelope."""
    assert isinstance(envelope, dict)
    assert set(envelope) == KEYS
    assert isinstance(envelope["ok"], bool)
    assert envelope["command"] == "joelclaw" or envelope["command"].startswith("joelclaw ")
    assert isinstance(envelope["next_actions"], list)
    for action in envelope["next_actions"]:
        assert set(action) <= {"command", "description", "params"}
        assert action["command"].startswith("joelclaw ")
        assert action["description"].strip()
        assert ("params" in action) == ("<" in action["command"])
        for name, param in action.get("params", {}).items():
            assert f"<{name}>" in action["command"]
            assert set(param) <= {"description", "value", "default", "enum", "required"}
    if envelope["ok"]:
        assert envelope["error"] is None
        assert envelope["fix"] is None
    else:
        assert envelope["result"] is None
        assert set(envelope["error"]) <= {"code", "message", "details"}
        assert envelope["error"]["code"] == envelope["error"]["code"].upper()
        assert envelope["error"]["message"].strip()
        assert envelope["fix"].strip()
