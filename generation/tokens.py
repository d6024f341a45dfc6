"""Text to token ids that forge no role, and token ids to text that streams in whole characters."""

import re
import threading
from collections.abc import Sequence

from jinja2 import TemplateError
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from generation.engine import Message


class ChatTokenizer:
    """The model's own chat template and tokens. Safe in any thread."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises ValueError if the tokenizer has no chat template or cannot decode a stream."""
        if not tokenizer.chat_template:
            raise ValueError("the model has no chat template; choose one tuned for instructions")
        if not tokenizer.is_fast:
            raise ValueError("the model's tokenizer has no `tokenizer.json`; choose another model")
        self._tokenizer = tokenizer
        # A tokenizer holds its padding and truncation in fields, so threads take turns.
        self._lock = threading.Lock()
        special = {
            token.content for token in tokenizer.added_tokens_decoder.values() if token.special
        } | set(tokenizer.all_special_tokens)
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
        self._has_system_role = self._accepts_system_role()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the prompt, up to where the assistant speaks.

        A control token spelt out in a message is broken up by a space, so that no content can
        end its turn or begin another.
        """
        turns = [
            {"role": message.role, "content": self._special.sub(_broken, message.content)}
            for message in messages
        ]
        if not self._has_system_role:
            turns = _without_system(turns)
        return self._template(turns)

    def encode_reply(self, text: str) -> list[int]:
        """Token ids of what the assistant says after a prompt, and of the end of its turn."""
        with self._lock:
            ids: list[int] = self._tokenizer.encode(
                self._special.sub(_broken, text), add_special_tokens=False
            )
        end = self._tokenizer.eos_token_id
        return ids if end is None else [*ids, int(end)]

    def text_stream(self, stop: Sequence[str]) -> "TextStream":
        """A decoder for one reply."""
        return TextStream(self._tokenizer, stop)

    def _template(self, turns: list[dict[str, str]]) -> list[int]:
        with self._lock:
            prompt = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False
            )
            ids: list[int] = self._tokenizer.encode(str(prompt), add_special_tokens=False)
        return ids

    def _accepts_system_role(self) -> bool:
        try:
            self._template([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
        except TemplateError:
            return False
        return True


def _broken(match: re.Match[str]) -> str:
    token = match[0]
    return f"{token[0]} {token[1:]}" if len(token) > 1 else " "


def _without_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """For templates that know no system role: its text opens the first turn of the user."""
    system = [turn["content"] for turn in turns if turn["role"] == "system"]
    rest = [turn for turn in turns if turn["role"] != "system"]
    if not system or not rest:
        return rest
    return [{**rest[0], "content": "\n\n".join([*system, rest[0]["content"]])}, *rest[1:]]


class TextStream:
    """Token ids of one reply to pieces of text; a piece is whole characters and no stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Text that is certain after `token`, perhaps none; `stopped` tells of a stop string."""
        piece = self._decoder.step(self._backend, token)
        # Bytes that no later token can complete decode to U+FFFD: the model wrote no character.
        text = self._held + (piece or "").replace("\ufffd", "")
        ends = [found for found in (text.find(stop) for stop in self._stop) if found >= 0]
        if ends:
            self.stopped = True
            self._held = ""
            return text[: min(ends)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back because it might have begun a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
