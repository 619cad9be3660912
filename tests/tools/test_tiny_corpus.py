"""What the tiny Dream is trained on is the same, byte for byte, as when the bundled one was trained."""

from __future__ import annotations

import hashlib

import numpy as np

from dream_edge.models import TINY, bundled
from dream_edge_runtime.format.model_config import ModelConfig
from tools.tiny.corpus import Batch, Corpus, sample_texts
from tools.tiny.tokenizer import load_tokenizer
from tools.tiny.train import STAGES

TOKENIZER_TEXTS = "b89d0b80dda76e98ad0cae05e5bf794999ad3079356c95cbe9aabf9548cab852"
FIRST_STEP = "fae228fabe762ab7ea35d6ffba445bf97c5353343f7a91fa468a31f9b2f18b89"


def digest_of(batch: Batch) -> bytes:
    tensors = (batch.canvas, batch.valid, batch.positions, batch.targets, batch.weights)
    return b"".join(tensor.numpy().tobytes() for tensor in tensors)


def test_the_tokenizer_learns_from_the_same_texts() -> None:
    texts = sample_texts(np.random.default_rng(0))
    assert hashlib.sha256("".join(f"{text}\0" for text in texts).encode()).hexdigest() == TOKENIZER_TEXTS


def test_the_first_step_sees_the_same_masked_canvases() -> None:
    directory = bundled(TINY)
    config = ModelConfig.read(directory / "config.json")
    corpus = Corpus(load_tokenizer(directory), config.eos_token_id, config.mask_token_id)
    rng, digest = np.random.default_rng([0, 0]), hashlib.sha256()
    for name, draw in corpus.tasks().items():
        for batch in draw(rng, STAGES[0][name]):
            digest.update(digest_of(batch))
    assert digest.hexdigest() == FIRST_STEP
