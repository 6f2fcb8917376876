"""What frozen features are worth, cheaply: k nearest neighbors and a linear probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, the inverse of the L2 penalty.
TEMPERATURE = 0.07
RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A figure on test data with its 95 % bootstrap interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ProbeResult:
    """What a probe reaches on test data.

    Attributes:
        accuracy: Share of the right answers.
        balanced_accuracy: Mean over the classes of the share of their frames that are right.
        auc: Area under the ROC curve; with several classes the mean of each against the rest.
        n: Number of test frames.
        setting: What was chosen: k, or the strength C.
    """

    accuracy: Figure
    balanced_accuracy: Figure
    auc: Figure
    n: int
    setting: dict[str, float]


def knn_probabilities(
    features: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    k: int = 20,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """Let the k most similar training frames vote, each with weight exp(cosine / temperature).

    Args:
        features: Training features, (N, C).
        labels: Class indices from 0, (N,).
        queries: (M, C).
        classes: Number of classes.
        k: Number of neighbors; all if there are fewer.
        temperature: Above 0.

    Returns:
        Shares of the votes, (M, classes); rows sum to 1.

    Raises:
        ValueError: If ``k`` or ``temperature`` is not positive, or there is no training frame.

    Source: the weighted vote of arXiv 1805.01978, section 3.4.
    """
    if k < 1 or temperature <= 0 or not len(features):
        raise ValueError(f'k {k} and temperature {temperature} are positive, and there are training frames.')
    similar = unit(queries) @ unit(features).T
    k = min(k, len(features))
    nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
    cosine = np.take_along_axis(similar, nearest, axis=1)
    weight = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
    votes = np.zeros((len(queries), classes))
    for label in range(classes):
        votes[:, label] = np.sum(weight * (labels[nearest] == label), axis=1)
    return votes / votes.sum(axis=1, keepdims=True)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return rows of length 1, float64; a row of zeros stays."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def linear_probabilities(
    train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], queries: np.ndarray, classes: int
) -> tuple[np.ndarray, float]:
    """Fit logistic regressions on standardized features, and keep the one with the best balanced accuracy on ``val``.

    Args:
        train: Features (N, C) and class indices (N,).
        val: The same of validation frames, by which the strength of the L2 penalty is chosen.
        queries: (M, C).
        classes: Number of classes; each is in ``train``.

    Returns:
        Probabilities, (M, classes), and the strength C; of equally good ones the smallest, that is the most penalized.
    """
    from sklearn.linear_model import LogisticRegression

    features, labels = train
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    best: tuple[float, float, LogisticRegression | None] = (-1.0, 0.0, None)
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000).fit((features - mean) / spread, labels)
        reached = balanced_accuracy(val[1], model.predict((val[0] - mean) / spread))
        if reached > best[0]:
            best = (reached, strength, model)
    _, strength, chosen = best
    assert chosen is not None
    return chosen.predict_proba((queries - mean) / spread).reshape(len(queries), classes), strength


def balanced_accuracy(truth: np.ndarray, answers: np.ndarray) -> float:
    """Mean over the classes in the truth of the share of their frames that are right."""
    return float(np.mean([np.mean(answers[truth == label] == label) for label in np.unique(truth)]))


def auc(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve; NaN if the truth lacks a class."""
    from scipy.stats import rankdata

    areas = []
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    for label in columns:
        positive = truth == label
        ups, downs = int(positive.sum()), int((~positive).sum())
        if not ups or not downs:
            return float('nan')
        ranks = rankdata(probabilities[:, label])  # Ties count half.
        areas.append((ranks[positive].sum() - ups * (ups + 1) / 2) / (ups * downs))
    return float(np.mean(areas))


def judge(
    truth: np.ndarray,
    probabilities: np.ndarray,
    setting: dict[str, float],
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ProbeResult:
    """Measure answers, with 95 % percentile bootstrap intervals over the test frames.

    Args:
        truth: Class indices, (M,).
        probabilities: (M, classes).
        setting: What the probe chose.
        groups: Series of each frame, (M,); whole series are then drawn, as their frames resemble each other.
        resamples: Number of draws; those that lack a class leave the AUC out.
        seed: Of the draws.
    """
    answers = probabilities.argmax(axis=1)
    measures: dict[str, Callable[[np.ndarray], float]] = {
        'accuracy': lambda part: float(np.mean(answers[part] == truth[part])),
        'balanced_accuracy': lambda part: balanced_accuracy(truth[part], answers[part]),
        'auc': lambda part: auc(truth[part], probabilities[part]),
    }
    names = np.unique(np.arange(len(truth)) if groups is None else np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(names == group) for group in range(names.max() + 1)]
    generator = np.random.default_rng(seed)
    draws = [
        np.concatenate([members[group] for group in generator.integers(0, len(members), len(members))])
        for _ in range(resamples)
    ]
    everything = np.arange(len(truth))
    figures = {}
    for name, measure in measures.items():
        values = np.array([measure(draw) for draw in draws])
        known = values[~np.isnan(values)]
        low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
        figures[name] = Figure(measure(everything), float(low), float(high))
    return ProbeResult(**figures, n=len(truth), setting=setting)
