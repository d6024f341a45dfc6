"""The reply that transformers' own `generate` gives to one prompt at a time, decoding greedily."""

from functools import cache

import torch
from peft import PeftModelForCausalLM
from transformers import PreTrainedTokenizerBase

from generation.engine import Finished, GenerationRequest, Message, Usage


class Oracle:
    def __init__(self, model: PeftModelForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.reply = cache(self._reply)

    def _reply(self, request: GenerationRequest) -> tuple[str, Finished]:
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        prompt = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt"
        )
        length = prompt["input_ids"].shape[1]
        if request.adapters:
            # A list makes all of them active together, which `PeftModel.set_adapter` refuses.
            self._model.base_model.set_adapter(list(request.adapters), inference_mode=True)
            output = self._generate(prompt, request)
        else:
            with self._model.disable_adapter():
                output = self._generate(prompt, request)
        reply = output[0, length:].tolist()
        ended = reply[-1] == self._tokenizer.eos_token_id
        reply = reply[:-1] if ended else reply
        finished = Finished("stop" if ended else "length", Usage(length, len(reply)))
        return self._tokenizer.decode(reply, skip_special_tokens=True), finished

    def _generate(
        self, prompt: dict[str, torch.Tensor], request: GenerationRequest
    ) -> torch.Tensor:
        with torch.inference_mode():
            return self._model.generate(
                **prompt, max_new_tokens=request.max_tokens, do_sample=False
            )


def ask(
    question: str, max_tokens: int = 12, *adapters: str, **options: object
) -> GenerationRequest:
    messages = (Message("user", question),)
    return GenerationRequest(messages, max_tokens, adapters=adapters, **options)
