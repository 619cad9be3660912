"""The model `dream-edge` of lm-evaluation-harness. Importing this registers it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.model import DreamModel

from ..models import load, open_checkpoint
from .prompts import render_chat
from .subject import Subject

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from tqdm import tqdm
except ImportError:
    raise MissingExtra("Evaluating with lm-evaluation-harness", "eval") from None

HARNESS_DEVICE = "cuda:0"
"""What the harness's command passes where no `--device` is given, so nobody need have asked for it."""


@register_model("dream-edge")
class _DreamEdgeLM(LM):  # type: ignore[misc]
    """An artifact, or the full-precision network it was made from, as the harness's `--model_args` describe it.

    Args:
        artifact: its directory, name on a hub, or "tiny".
        reference: instead, a checkpoint, which is run in full precision by PyTorch.
        attention, shift, mask_token: what its files leave open, as in `dream_edge.export`.
        device, threads: where an artifact runs, as in `dream_edge.load`. A reference runs on the CPU.
        batch_size, mc_samples, seed, check_greedy, add_bos_token: see `Subject`.
        max_batch_size: what the harness passes to every model; it has no effect here.
        options: how to generate: `exact`, or fields of `GenerationConfig`.

    Raises:
        InvalidOption: not one of artifact and reference, or a value that does not fit.
        DreamEdgeError: as `dream_edge.load` raises them.
    """

    def __init__(
        self,
        artifact: str | None = None,
        reference: str | None = None,
        *,
        attention: str | None = None,
        shift: int | None = None,
        mask_token: str | None = None,
        device: str | None = None,
        threads: int | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        mc_samples: int = 128,
        seed: int = 0,
        check_greedy: bool = True,
        add_bos_token: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if (artifact is None) == (reference is None):
            given = "neither" if artifact is None else "both"
            raise InvalidOption("model_args", given, "must name one of artifact=… and reference=…")
        chosen = {name: value for name, value in options.items() if value is not None}
        if "cache" in options:  # the harness reads "none" as null
            chosen["cache"] = options["cache"] or "none"
        if artifact is not None:
            chosen_device = "auto" if device in (None, HARNESS_DEVICE) else device
            model = load(artifact, device=chosen_device, threads=threads)
        else:
            model = _reference(str(reference), attention=attention, shift=shift, mask_token=mask_token)
            if chosen.setdefault("cache", "none") != "none":
                raise InvalidOption(
                    "cache", chosen["cache"], "does not go with a reference, which keeps no keys and values"
                )
        self.subject: Subject = Subject(
            model=model,
            mc_samples=mc_samples,
            seed=seed,
            check_greedy=check_greedy,
            add_bos_token=add_bos_token,
            batch_size=_batch_size(batch_size),
            options=chosen,
        )

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return [
            self._keep("loglikelihood", request, self.subject.log_likelihood(*request.args))
            for request in tqdm(requests, "Likelihoods", disable=disable_tqdm)
        ]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        return [
            self._keep("loglikelihood_rolling", request, self.subject.rolling_log_likelihood(*request.args))
            for request in tqdm(requests, "Likelihoods of texts", disable=disable_tqdm)
        ]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        contexts = [request.args for request in requests]
        texts = [""] * len(contexts)
        for index, text in tqdm(self.subject.generate(contexts), "Texts", len(contexts), disable=disable_tqdm):
            texts[index] = self._keep("generate_until", requests[index], text)
        return texts

    def _keep(self, kind: str, request: Instance, result: Any) -> Any:
        """`result`, once the harness's cache has it, so that a killed run resumes there."""
        self.cache_hook.add_partial(kind, request.args, result)
        return result

    # --- conversations -----------------------------------------------------------------------------------------------

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        chat_format, thinking = self.subject.model.tokenizer.chat_format, self.subject.options.get("thinking")
        return render_chat(chat_history, chat_format, opens_reply=add_generation_prompt, thinking=thinking)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """For the harness's record. There is one template: it cannot be chosen by name."""
        if isinstance(chat_template, str):
            raise InvalidOption("apply_chat_template", chat_template, "takes no name: a model has one chat template")
        return self.apply_chat_template([{"role": "user", "content": "{content}"}]) if chat_template else None

    @property
    def tokenizer_name(self) -> str:
        """Tells vocabularies apart in the harness's cache of requests."""
        tokenizer = self.subject.model.tokenizer
        texts = "\x00".join(tokenizer.token_text(token) for token in range(tokenizer.vocab_size))
        return f"dream-edge-{hashlib.sha256(texts.encode()).hexdigest()[:16]}"


def _batch_size(given: int | str | None) -> int:
    """From the harness's command a number comes as a string."""
    if given is None:
        return 1
    if isinstance(given, int):
        return given
    if not given.isdecimal():
        raise InvalidOption("batch_size", given, "must be a number: what fits is not searched for")
    return int(given)


def _reference(name: str, **stated: Any) -> DreamModel:
    checkpoint = open_checkpoint(name, "Evaluating the full-precision network", **stated)
    from dream_edge_export.reference.networks import reference_model

    return reference_model(checkpoint)


def command() -> None:
    """The harness's command, with this model in it."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
