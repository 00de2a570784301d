"""Servers on loopback that speak the Bot API, the Todoist API, and receive webhooks, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BOT_TOKEN = "12345:test-token-of-a-bot-on-loopback"
TODOIST_TOKEN = "token-of-a-task-list"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"salt-and-squid-ink-on-paper").decode()


@dataclass
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hold_s: float = 0.0  # wait before answering, or until the server is closed


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"null")


class LocalServer:
    """Answers with what `next_answers` has, one a request, and then as the real one would."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.next_answers: list[Answer] = []
        self.url = ""
        self._closing = threading.Event()
        self._guard = threading.Lock()

    def answer(self, asked: Asked) -> Answer:
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator[Any]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            server.shutdown()
            server.server_close()
            thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, body)
                with owner._guard:
                    owner.asked.append(asked)
                    answer = owner.next_answers.pop(0) if owner.next_answers else owner.answer(asked)
                if answer.hold_s:
                    owner._closing.wait(answer.hold_s)
                text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
                data = b"" if answer.body is None else text.encode()
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # whoever asked has given up
                    pass

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - names of the base class

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


class _Plain(HTMLParser):
    """What Telegram makes of its HTML; anything but its few tags is an error there."""

    TAGS = ("b", "i", "u", "s", "code", "pre", "a")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.TAGS:
            raise ValueError(f'Unsupported start tag "{tag}"')

    def handle_data(self, data: str) -> None:
        self.text += data

    @classmethod
    def of(cls, text: str) -> str:
        if re.search(r"<(?!/?[a-z])|&(?!(?:lt|gt|amp|quot|#x?\w+);)", text):
            raise ValueError("Can't find end of the entity")
        parser = cls()
        parser.feed(text)
        parser.close()
        return parser.text


class BotServer(LocalServer):
    """The Bot API of one bot, in the chats that it knows."""

    def __init__(self, *chats: str) -> None:
        super().__init__()
        self.chats = chats or ("42",)
        self.messages: list[dict[str, Any]] = []  # as people see them
        self.answered: dict[str, str] = {}  # callback id -> what the person read

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages]

    def answer(self, asked: Asked) -> Answer:
        token, _, method = asked.path.removeprefix("/bot").partition("/")
        if token != BOT_TOKEN:
            return _failed(404, "Not Found")
        try:
            return Answer(200, {"ok": True, "result": getattr(self, method)(asked.json)})
        except (ValueError, KeyError) as error:
            return _failed(400, f"Bad Request: {error}")

    def getMe(self, _fields: Any) -> Any:  # noqa: N802 - the Bot API's name
        return {"id": 12345, "is_bot": True, "username": "joelclaw_bot"}

    def sendMessage(self, fields: dict[str, Any]) -> Any:  # noqa: N802
        if fields["chat_id"] not in self.chats:
            raise ValueError("chat not found")
        message = {
            "message_id": len(self.messages) + 1,
            "chat": {"id": int(fields["chat_id"])},
            "text": self._text(fields),
            "keyboard": self._keyboard(fields),
            "silent": fields.get("disable_notification", False),
        }
        self.messages.append(message)
        return message

    def editMessageText(self, fields: dict[str, Any]) -> Any:  # noqa: N802
        message = self.messages[fields["message_id"] - 1]
        if str(message["chat"]["id"]) != str(fields["chat_id"]):
            raise ValueError("message to edit not found")
        message.update(text=self._text(fields), keyboard=self._keyboard(fields))
        return message

    def answerCallbackQuery(self, fields: dict[str, Any]) -> Any:  # noqa: N802
        if len(fields.get("text", "")) > 200:
            raise ValueError("MESSAGE_TOO_LONG")
        self.answered[fields["callback_query_id"]] = fields.get("text", "")
        return True

    @staticmethod
    def _text(fields: dict[str, Any]) -> str:
        text = _Plain.of(fields["text"]) if fields.get("parse_mode") == "HTML" else fields["text"]
        if not text.strip():
            raise ValueError("message text is empty")
        if len(text.encode("utf-16-le")) // 2 > 4096:
            raise ValueError("message is too long")
        return text

    @staticmethod
    def _keyboard(fields: dict[str, Any]) -> list[dict[str, str]]:
        buttons = [each for row in fields.get("reply_markup", {}).get("inline_keyboard", []) for each in row]
        for button in buttons:
            if not 1 <= len(button["callback_data"].encode()) <= 64:
                raise ValueError("BUTTON_DATA_INVALID")
        return buttons


def _failed(status: int, description: str, **parameters: Any) -> Answer:
    body = {"ok": False, "error_code": status, "description": description}
    return Answer(status, body | ({"parameters": parameters} if parameters else {}))


def too_many(retry_after: int) -> Answer:
    return _failed(429, f"Too Many Requests: retry after {retry_after}", retry_after=retry_after)


class TodoistServer(LocalServer):
    """The part of the Todoist API that is used; a request id that was seen changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.comments: list[tuple[str, str]] = []
        self._seen: dict[tuple[str, str], Answer] = {}

    def open_tasks(self) -> list[str]:
        return [task["content"] for task in self.tasks.values() if task["completed_at"] is None]

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {TODOIST_TOKEN}":
            return Answer(401, {"error": "Unauthorized"})
        seen = (asked.headers.get("x-request-id", ""), asked.path)
        if asked.method == "POST" and seen[0] and seen in self._seen:
            return self._seen[seen]
        answer = self._answer(asked)
        self._seen[seen] = answer
        return answer

    def _answer(self, asked: Asked) -> Answer:
        path = asked.path.removeprefix("/api/v1/").split("/")
        if path == ["tasks"]:
            task = self._task(asked.json)
            self.tasks[task["id"]] = task
            return Answer(200, task)
        if path == ["comments"]:
            self.comments.append((asked.json["task_id"], asked.json["content"]))
            return Answer(200, self._comment(asked.json))
        task = self.tasks.get(path[1])
        if task is None:
            return Answer(404, {"error": "Task not found"})
        if path[2:] == ["close"]:
            task["completed_at"] = "2026-03-01T10:00:00Z"
            return Answer(204)
        return Answer(200, task)

    def _task(self, fields: dict[str, Any]) -> dict[str, Any]:
        moment = "2026-03-01T09:00:00Z"
        return {
            "id": f"t{len(self.tasks) + 1}", "content": fields["content"],
            "description": fields.get("description", ""), "project_id": "inbox", "section_id": None,
            "parent_id": None, "labels": fields.get("labels", []), "priority": fields.get("priority", 1),
            "due": None, "deadline": None, "duration": None, "collapsed": False, "child_order": 1,
            "responsible_uid": None, "assigned_by_uid": None, "completed_at": None, "added_by_uid": "u1",
            "added_at": moment, "updated_at": moment,
        }  # fmt: skip

    def _comment(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"c{len(self.comments)}", "content": fields["content"], "posted_uid": "u1",
            "posted_at": "2026-03-01T09:00:00Z", "task_id": fields["task_id"], "project_id": None,
            "file_attachment": None, "uids_to_notify": None,
        }  # fmt: skip


class WebhookReceiver(LocalServer):
    """Takes what is signed well and new, as a receiver by Standard Webhooks does."""

    def __init__(self) -> None:
        super().__init__()
        self.received: dict[str, Any] = {}

    def answer(self, asked: Asked) -> Answer:
        id, stamp = asked.headers["webhook-id"], asked.headers["webhook-timestamp"]
        key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
        digest = hmac.new(key, f"{id}.{stamp}.".encode() + asked.body, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(digest).decode()
        if not hmac.compare_digest(expected, asked.headers["webhook-signature"]):
            return Answer(401, {"error": "bad signature"})
        if abs(time.time() - int(stamp)) > 300:
            return Answer(400, {"error": "too old"})
        self.received.setdefault(id, asked.json)
        return Answer(204)


Serve = Callable[[LocalServer], Any]
