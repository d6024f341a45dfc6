"""Prompts and streamed text, with the packaged model's tokenizer."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from generation.engine import Message
from generation.tokens import ChatTokenizer, TextStream
from generation.weights import find_model

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>"]
TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)


@pytest.fixture(scope="module")
def chat(tokenizer: PreTrainedTokenizerBase) -> ChatTokenizer:
    return ChatTokenizer(tokenizer)


def test_a_prompt_is_the_models_own_template(
    chat: ChatTokenizer, tokenizer: PreTrainedTokenizerBase
) -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi!"),
        Message("assistant", "Yes?"),
    ]
    expected = tokenizer.encode(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n"
        "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat.encode(messages) == expected


@given(pieces=st.lists(st.sampled_from(SPECIAL) | TEXT, max_size=6))
def test_no_content_adds_a_control_token(
    pieces: list[str], chat: ChatTokenizer, tokenizer: PreTrainedTokenizerBase
) -> None:
    control = set(tokenizer.added_tokens_decoder)
    # A turn has a beginning and an end, and so has the default system turn; then the reply begins.
    content = "".join(pieces)
    ids = chat.encode([Message("user", content)])
    assert [token for token in ids if token in control] == [1, 2, 1, 2, 1]


@given(text=TEXT)
def test_streamed_pieces_are_the_text_in_whole_characters(
    text: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    stream = TextStream(tokenizer, ())
    # Byte-level BPE gives every text back, but for bytes that the vocabulary lacks.
    tokens = tokenizer.encode(text)
    assume(tokenizer.decode(tokens) == text and "\ufffd" not in text)
    pieces = [stream.push(token) for token in tokens]
    assert "".join([*pieces, stream.finish()]) == text
    assert not stream.stopped


@given(tokens=st.lists(st.integers(0, 49151), max_size=30))
def test_no_tokens_make_a_broken_character(
    tokens: list[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    stream = TextStream(tokenizer, ())
    text = "".join([*(stream.push(token) for token in tokens), stream.finish()])
    assert "\ufffd" not in text
    assert text.encode().decode() == text


@given(
    text=st.text(alphabet="ab c", max_size=30),
    stop=st.lists(st.text(alphabet="ab c", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_text_ends_before_the_first_stop_string(
    text: str, stop: list[str], tokenizer: PreTrainedTokenizerBase
) -> None:
    stream = TextStream(tokenizer, stop)
    out = ""
    for token in tokenizer.encode(text):
        out += stream.push(token)
        if stream.stopped:
            break
    out += stream.finish()
    found = [text.index(word) for word in stop if word in text]
    # Of two stop strings, the one that is complete first ends the text, where it begins.
    ends = [text.index(word) + len(word) for word in stop if word in text]
    assert stream.stopped == bool(found)
    if not found:
        assert out == text
    else:
        assert text.startswith(out)
        assert len(out) <= min(ends) and not any(word in out for word in stop)


def test_a_template_without_a_system_role_gets_its_text_in_the_first_turn() -> None:
    tokenizer = AutoTokenizer.from_pretrained(find_model().location)
    # As in the template of google/gemma-2-2b-it.
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    ids = ChatTokenizer(tokenizer).encode([Message("system", "Be brief."), Message("user", "Hi")])
    expected = "<|im_start|>user\nBe brief.\n\nHi<|im_end|><|im_start|>assistant\n"
    assert tokenizer.decode(ids) == expected


def test_a_model_without_a_chat_template_is_refused() -> None:
    tokenizer = AutoTokenizer.from_pretrained(find_model().location)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        ChatTokenizer(tokenizer)
