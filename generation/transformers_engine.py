"""The reference engine: transformers with PEFT in this process."""

import asyncio
import atexit
from collections.abc import AsyncGenerator, Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from generation.adapter_files import Lora
from generation.adapters import AdapterSet
from generation.batch import check_supported
from generation.engine import (
    EngineError,
    EngineEvent,
    Finished,
    GenerationRequest,
    Message,
    PromptTooLongError,
    Started,
)
from generation.loop import EngineLoop, Row
from generation.sampling import Sampler
from generation.tokens import ChatTokenizer
from generation.weights import ModelFiles

# Models below this many parameters answer worse when asked to cite, and repeat themselves for ever.
_SMALL = 1_000_000_000
# Longer than a pair of times of day in SmolLM2's tokens: a repetition penalty, or a shorter limit,
# made it misquote figures that it had to say twice.
_SMALL_MODELS_NGRAM = 16


class TransformersEngine:
    """Batches the replies of one model, each row with its own adapters. See `Engine`."""

    def __init__(
        self,
        files: ModelFiles,
        *,
        context_length: int = 8192,
        dtype: torch.dtype | None = None,
        max_rows: int = 4,
        max_waiting: int = 16,
        no_repeat_ngram: int | None = None,
    ) -> None:
        """Load the model, which takes seconds: call it outside an event loop.

        Args:
            files: what `find_model` returned.
            context_length: upper limit of tokens for prompt and reply, where the model allows more.
            dtype: of the weights; by default bfloat16 where the processor computes with it, else
                float32.
            max_rows: replies made together.
            max_waiting: replies that may wait for a place before `generate` raises EngineBusyError.
            no_repeat_ngram: see `Sampler`; by default 16 for small models and 0 for others.

        Raises:
            ValueError: the model has no chat template or cannot share a batch.
            OSError: the model cannot be found or read.
        """
        self._files = files
        model, self._tokenizer, self._end_tokens = load_model(
            files.location, dtype or best_dtype(), "cuda" if torch.cuda.is_available() else "cpu"
        )
        self._context_length = min(context_length, int(model.config.max_position_embeddings))
        small = model.num_parameters() < _SMALL
        self._cites = not small
        if no_repeat_ngram is None:
            no_repeat_ngram = _SMALL_MODELS_NGRAM if small else 0
        self._no_repeat_ngram = no_repeat_ngram
        self._adapters = AdapterSet(model)
        self._loop = EngineLoop(model, self._adapters, max_rows, max_waiting)
        # A thread inside torch must not outlive the interpreter.
        atexit.register(self._loop.stop)

    @property
    def model_id(self) -> str:
        return self._files.model_id

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def cites(self) -> bool:
        return self._cites

    @property
    def adapters(self) -> frozenset[str]:
        return self._loop.adapter_names

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._tokenizer.encode(messages))

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[EngineEvent, None]:
        prompt = await asyncio.to_thread(self._tokenizer.encode, request.messages)
        room = self._context_length - len(prompt)
        if room < 1:
            raise PromptTooLongError(len(prompt), self._context_length)
        events: asyncio.Queue[EngineEvent | EngineError] = asyncio.Queue()
        caller = asyncio.get_running_loop()

        def deliver(event: EngineEvent | EngineError) -> None:
            if caller.is_closed():
                row.cancelled = True
            else:
                caller.call_soon_threadsafe(events.put_nowait, event)

        row = Row(
            request,
            prompt,
            max_tokens=min(request.max_tokens, room),
            end_tokens=self._end_tokens,
            text=self._tokenizer.text_stream(request.stop),
            sampler=Sampler(request, self._no_repeat_ngram),
            deliver=deliver,
        )
        self._loop.submit(row)
        try:
            yield Started()
            while True:
                event = await events.get()
                if isinstance(event, EngineError):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self._loop.cancel(row)

    async def load_adapter(self, name: str, lora: Lora) -> None:
        """Add a LoRA adapter. Raises ValueError as `AdapterSet.load` does."""
        await asyncio.wrap_future(self._loop.call(lambda: self._adapters.load(name, lora)))

    async def unload_adapter(self, name: str) -> None:
        """Refuse the adapter from now on; returns when the last reply that uses it has ended.

        Raises UnknownAdapterError if the engine does not hold it.
        """
        await asyncio.wrap_future(self._loop.unload(name))

    async def close(self) -> None:
        atexit.unregister(self._loop.stop)
        await asyncio.to_thread(self._loop.stop)


def load_model(
    location: str, dtype: torch.dtype, device: str
) -> tuple[PreTrainedModel, ChatTokenizer, frozenset[int]]:
    """A model in evaluation mode, its tokenizer, and the tokens that end its replies.

    Raises ValueError and OSError as `TransformersEngine` does.
    """
    noisy = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        # Only safetensors: other weight files are pickles.
        model = AutoModelForCausalLM.from_pretrained(
            location,
            dtype=dtype,
            use_safetensors=True,
            device_map=device,
        )
        tokenizer = AutoTokenizer.from_pretrained(location)
    finally:
        if noisy:
            enable_progress_bar()  # type: ignore[no-untyped-call]
    check_supported(model.config)
    model.train(mode=False)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    end_tokens = frozenset(end for end in [*ends, tokenizer.eos_token_id] if end is not None)
    return model, ChatTokenizer(tokenizer), end_tokens


def best_dtype() -> torch.dtype:
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    processor = torch.cpu.get_capabilities()
    fast = processor.get("avx512_bf16") or processor.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32
