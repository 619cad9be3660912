"""The tokens of a vocabulary as bytes, in a trie: what begins alike is read once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..arrays import IntArray


class Vocabulary:
    """Which bytes each token stands for. Immutable, and shared by threads.

    Nodes are numbered level by level, the root is 0; the children of a node stand together.

    Attributes:
        size: the largest id + 1.
        bytes: of each id.
        first_alike: [size] the least id with the same bytes; the id itself where it has none.
        byte: [nodes] the last byte of each node.
        first_child, children: [nodes] where the children of each begin, and how many there are.
        token: [nodes] the token that ends there, -1 where none does.
    """

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        """`tokens` are the bytes of each id that text may have; empty ones are left out."""
        self.size: int = max(tokens, default=-1) + 1
        self.bytes: dict[int, bytes] = {token: text for token, text in tokens.items() if text}
        unique = {text: token for token, text in sorted(self.bytes.items(), reverse=True)}
        self.first_alike: IntArray = np.arange(self.size)
        self.first_alike[list(self.bytes)] = [unique[text] for text in self.bytes.values()]
        texts = sorted(unique)
        ids = np.array([unique[text] for text in texts], dtype=np.int64)
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        flat = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64)
        offsets = np.cumsum(lengths) - lengths
        root = np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, -1)
        levels: list[tuple[IntArray, IntArray, IntArray]] = [root]
        inside = np.arange(len(texts))
        parent_of = np.zeros(len(texts), dtype=np.int64)  # the node, among those of the level before, of each text
        for depth in range(int(lengths.max(initial=0))):
            longer = lengths[inside] > depth
            inside, parent_of = inside[longer], parent_of[longer]
            last = flat[offsets[inside] + depth]
            is_new = np.ones(len(inside), dtype=bool)
            is_new[1:] = (last[1:] != last[:-1]) | (parent_of[1:] != parent_of[:-1])
            node_of = np.cumsum(is_new) - 1
            token = np.full(int(is_new.sum()), -1)
            ends = lengths[inside] == depth + 1
            token[node_of[ends]] = ids[inside[ends]]
            levels.append((last[is_new], parent_of[is_new], token))
            parent_of = node_of
        sizes = [len(last) for last, _, _ in levels]
        starts = np.cumsum([0, *sizes])
        self.byte: IntArray = np.concatenate([last for last, _, _ in levels])
        self.token: IntArray = np.concatenate([token for _, _, token in levels])
        self.children: IntArray = np.zeros(len(self.byte), dtype=np.int64)
        for level, (_, parent, _) in enumerate(levels[1:]):
            self.children[starts[level] : starts[level + 1]] = np.bincount(parent, minlength=sizes[level])
        self.first_child: IntArray = 1 + np.cumsum(self.children) - self.children
