"""A second teacher for minibert-sentiment: logistic regression on the words and word pairs of whole reviews.

It reads a review to its end, where the student sees 256 tokens, and errs on other reviews than a network does.
(Wang and Manning 2012 show how strong word pairs are on IMDB.) Needs scikit-learn, of the extra `test`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

FOLDS = 5


def word_pairs() -> Pipeline:
    counts = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, token_pattern=r"[a-z']+|[!?]")
    return make_pipeline(counts, LogisticRegression(C=30.0, max_iter=200))


def probabilities(
    texts: Sequence[str], labels: Sequence[int], unlabelled: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Of the second class: for each labelled text by a model that has not seen it, and for the unlabelled ones.

    Returns:
        float64 (texts,) and float64 (unlabelled,).
    """
    cleaned, others = ([text.replace("<br />", " ") for text in some] for some in (texts, unlabelled))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    unseen = cross_val_predict(word_pairs(), cleaned, labels, cv=folds, method="predict_proba")
    whole = word_pairs().fit(cleaned, labels)
    return unseen[:, 1], whole.predict_proba(others)[:, 1]
