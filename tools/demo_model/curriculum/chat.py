"""Chats and their text: what `chat_template.jinja` renders, written once more in plain Python.

The generator renders millions of chats, so it does not go through Jinja; a test holds the two
together. Beside the text it returns which parts the model is to learn: the assistant's.
"""

import json
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Segment = tuple[str, bool]  # text, and whether the model learns to write it

TOOLS_HEAD = ("# Tools\n\nThese functions can be called; each line between <tools> and </tools> "
              "describes one:\n<tools>")
TOOLS_TAIL = ("\n</tools>\n\nTo call a function, answer with its name and arguments as JSON:\n<tool_call>\n"
              '{"name": "...", "arguments": {...}}\n</tool_call>')


@dataclass
class Chat:
    """Messages in order, the assistant's last, and the tools that the system message lists."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)

    def user(self, content: str) -> "Chat":
        self.messages.append({"role": "user", "content": content})
        return self

    def assistant(self, content: str) -> "Chat":
        self.messages.append({"role": "assistant", "content": content})
        return self

    def call(self, name: str, arguments: dict[str, Any]) -> "Chat":
        self.messages.append({"role": "assistant", "content": "",
                              "tool_calls": [{"name": name, "arguments": arguments}]})
        return self

    def result(self, value: Any) -> "Chat":
        self.messages.append({"role": "tool", "content": to_json(value)})
        return self


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def reply_text(message: Message) -> str:
    """The text of an assistant's message, without the end token."""
    calls = [f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {to_json(call["arguments"])}}}\n</tool_call>'
             for call in message.get("tool_calls", ())]
    return "\n".join(([message["content"]] if message["content"] else []) + calls)


def render(chat: Chat) -> list[Segment]:
    """The chat as segments; those that the assistant writes are marked as learned."""
    messages = chat.messages
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    parts: list[Segment] = []
    if chat.tools:
        lines = "".join("\n" + to_json(tool) for tool in chat.tools)
        lead = system + "\n\n" if system else ""
        parts.append((f"<|im_start|>system\n{lead}{TOOLS_HEAD}{lines}{TOOLS_TAIL}<|im_end|>\n", False))
    elif system:
        parts.append((f"<|im_start|>system\n{system}<|im_end|>\n", False))
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "user":
            parts.append((f"<|im_start|>user\n{message['content']}<|im_end|>\n", False))
        elif role == "tool":
            first = messages[index - 1]["role"] != "tool"
            last = index + 1 == len(messages) or messages[index + 1]["role"] != "tool"
            parts.append((("<|im_start|>user" if first else "")
                          + f"\n<tool_response>\n{message['content']}\n</tool_response>"
                          + ("<|im_end|>\n" if last else ""), False))
        elif role == "assistant":
            parts.append(("<|im_start|>assistant\n", False))
            parts.append((reply_text(message) + "<|im_end|>", True))
            parts.append(("\n", False))
    return parts


def prompt_text(chat: Chat) -> str:
    """The text before the assistant's last message: what a model is given to continue."""
    return "".join(text for text, _ in render(chat)[:-2])
