"""What the tiny networks are trained on: Dream's is the same, byte for byte, as when the bundled one was trained."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from dream_edge.models import TINY, bundled
from dream_edge_export.checkpoint.config import read_checkpoint_config
from tools.tiny.corpus import Batch, Corpus, sample_texts
from tools.tiny.networks import STAGES
from tools.tiny.tokenizer import load_tokenizer

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
    config = read_checkpoint_config(directory)
    corpus = Corpus(load_tokenizer(directory), config)
    rng, digest = np.random.default_rng([0, 0]), hashlib.sha256()
    draws = corpus.tasks()
    for name, tokens in STAGES["dream"][0].items():
        for batch in draws[name](rng, tokens):
            digest.update(digest_of(batch))
    assert digest.hexdigest() == FIRST_STEP


def test_a_block_causal_network_is_asked_about_the_last_block_of_each_row() -> None:
    directory, block = bundled(TINY), 32
    config = replace(read_checkpoint_config(directory), causal_block=block, shift=0)
    rng = np.random.default_rng(3)
    corpus = Corpus(load_tokenizer(directory), config)
    asked: set[int] = set()
    whole = rows = 0
    for draw in corpus.tasks().values():
        for batch in draw(rng, 4000):
            masked, valid = (batch.canvas == config.mask_token_id).numpy(), batch.valid.numpy()
            assert masked.any(-1).all()
            assert not (masked & ~valid).any()
            ends = valid.sum(-1)
            assert (valid == (np.arange(valid.shape[1]) < ends[:, None])).all()
            last = (ends - 1) // block
            assert (masked.argmax(-1) // block == last).all()
            asked |= set(last.tolist())
            whole += int((ends % block == 0).sum())
            rows += len(ends)
            assert float(batch.weights.min()) >= 0
    assert asked >= {0, 1}
    assert rows / 2 < whole < rows
