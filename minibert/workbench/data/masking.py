"""Masked-LM training: which tokens are masked, what replaces them, and the labels.

Devlin et al. 2019, section 3.1 and appendix A.1: 15% of the tokens are chosen. Of these 80% become
[MASK], 10% a random other token and 10% stay as they are. Since [MASK] never occurs in later use,
the model must not rely on it; it has to represent every token, as any of them may be wrong. The
original code masked ten copies of the data once; here every batch is masked again whenever it is
loaded (Liu et al. 2019, section 4.1, "dynamic masking").
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from minibert.data import IGNORED_LABEL
from minibert.io.errors import ConfigError

MASKED, REPLACED = 0.8, 0.1  # of the chosen tokens; the others stay as they are


class Masking:
    """Masks tokens of one vocabulary.

    Args:
        vocabulary: piece -> id; a piece that begins with ## continues a word.
        special: special token -> id, including [MASK]. [CLS], [PAD] and the like are never chosen
            and never used as replacements; nor is an id without a piece.
        size: V, the number of ids.
        share: the probability with which each other token is chosen.
        whole_words: a word is chosen with all of its pieces or not at all. The probability of a
            token is the same; its replacement is decided for each piece.

    Raises:
        ConfigError: the share is not between 0 and 1, or all pieces are special tokens.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        special: Mapping[str, int],
        *,
        size: int,
        share: float = 0.15,
        whole_words: bool = False,
    ):
        if not 0 < share < 1:
            raise ConfigError(
                f"The share of tokens to mask is {share}, but it must be above 0 and below 1.", key="mask_share"
            )
        self.share, self.whole_words, self.mask_id = share, whole_words, special["[MASK]"]
        self.ordinary = np.zeros(size, dtype=bool)  # (V,), the ids that may be chosen
        self.ordinary[list(vocabulary.values())] = True
        self.ordinary[list(special.values())] = False
        self._continues = np.zeros(size, dtype=bool)  # (V,)
        self._continues[[vocabulary[piece] for piece in vocabulary if piece[:2] == "##"]] = True
        self._replacements = self.ordinary.nonzero()[0]
        if not self._replacements.size:
            raise ConfigError(f"All {len(vocabulary)} pieces of the vocabulary are special tokens.", key="vocabulary")

    def __call__(
        self, ids: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Masks tokens of a batch. The result depends on the ids and the generator alone.

        Args:
            ids: (B, S), including padding; not changed.

        Returns:
            The masked ids, and the labels: the original ids of the chosen tokens, -100 elsewhere;
            (B, S) each. Every row that has an ordinary token has a label.
        """
        ordinary = self.ordinary[ids]  # (B, S)
        draws = generator.random(ids.shape)  # (B, S), one per token
        if self.whole_words:  # one per word: that of its first piece
            draws = np.take_along_axis(draws, self._first_pieces(ids, ordinary), axis=1)  # (B, S)
        draws[~ordinary] = 1.0  # above every share
        lowest = draws.min(axis=1, keepdims=True)  # (B, 1), for a row in which nothing is chosen
        chosen = ordinary & ((draws < self.share) | (draws == lowest))  # (B, S)
        labels = np.where(chosen, ids, IGNORED_LABEL)  # (B, S)
        fate = generator.random(ids.shape)  # (B, S)
        others = generator.integers(len(self._replacements), size=ids.shape)  # (B, S)
        drawn = self._replacements[others]  # (B, S)
        hidden = np.where(chosen & (fate < MASKED), self.mask_id, ids)  # (B, S)
        replaced = chosen & (fate >= MASKED) & (fate < MASKED + REPLACED)  # (B, S)
        return np.where(replaced, drawn, hidden), labels  # (B, S) each

    def _first_pieces(self, ids: NDArray[np.int64], ordinary: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(B, S): the column of the first piece of each token's word."""
        after_ordinary = np.zeros_like(ordinary)  # (B, S)
        after_ordinary[:, 1:] = ordinary[:, :-1]
        # A row may begin in the middle of a word, whose first piece is then the first one seen.
        begins = ~(self._continues[ids] & ordinary & after_ordinary)  # (B, S)
        columns = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)  # (B, S)
        return np.maximum.accumulate(np.where(begins, columns, 0), axis=1)  # (B, S)
