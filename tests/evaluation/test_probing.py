"""k-NN and the linear probe against slow, obvious computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from vasomim.evaluation.probing import auc, balanced_accuracy, judge, knn_probabilities, linear_probabilities


def slow_knn(features, labels, query, classes, k, temperature):
    cosines = []
    for feature, label in zip(features, labels, strict=True):
        length = math.sqrt(sum(v * v for v in feature)) * math.sqrt(sum(v * v for v in query))
        cosines.append((sum(a * b for a, b in zip(feature, query, strict=True)) / length, label))
    cosines.sort(reverse=True)
    votes = [0.0] * classes
    for cosine, label in cosines[:k]:
        votes[label] += math.exp(cosine / temperature)
    return [vote / sum(votes) for vote in votes]


@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (5, 0.07), (7, 1.0), (100, 0.3)])
def test_votes_are_those_of_a_slow_computation(k, temperature):
    random = np.random.RandomState(0)
    features, queries = random.randn(30, 4), random.randn(6, 4)
    labels = random.randint(0, 3, 30)
    found = knn_probabilities(features, labels, queries, 3, k, temperature)
    expected = [slow_knn(features.tolist(), labels.tolist(), query.tolist(), 3, k, temperature) for query in queries]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_lengths_of_features_play_no_role():
    random = np.random.RandomState(1)
    features, queries, labels = random.randn(20, 4), random.randn(5, 4), random.randint(0, 2, 20)
    scaled = features * random.uniform(0.1, 50, (20, 1))
    np.testing.assert_allclose(
        knn_probabilities(features, labels, queries, 2), knn_probabilities(scaled, labels, queries * 9, 2), atol=1e-9
    )


@pytest.mark.parametrize('classes', [2, 4])
def test_figures_are_those_of_scikit_learn(classes):
    random = np.random.RandomState(classes)
    truth = np.concatenate([np.arange(classes), random.randint(0, classes, 60)])
    shares = np.round(random.dirichlet(np.ones(classes), len(truth)), 1) + 1e-3  # Rounded: ties.
    shares /= shares.sum(axis=1, keepdims=True)
    answers = shares.argmax(axis=1)
    assert balanced_accuracy(truth, answers) == pytest.approx(balanced_accuracy_score(truth, answers))
    expected = roc_auc_score(truth, shares[:, 1] if classes == 2 else shares, multi_class='ovr')
    assert auc(truth, shares) == pytest.approx(expected)
    result = judge(truth, shares, {}, resamples=200)
    assert result.accuracy.low < result.accuracy.value < result.accuracy.high and result.n == len(truth)


def test_an_interval_over_series_is_wider_than_over_copies_of_their_frames():
    random = np.random.RandomState(5)
    right = random.rand(20) < 0.7
    truth = np.repeat(np.arange(20) % 2, 10)
    shares = np.eye(2)[np.where(np.repeat(right, 10), truth, 1 - truth)]
    series = np.repeat([f's{index}' for index in range(20)], 10)
    alone, together = (judge(truth, shares, {}, groups).accuracy for groups in (None, series))
    assert together.value == alone.value == pytest.approx(right.mean())
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_auc_of_one_class_alone_is_undefined():
    assert math.isnan(auc(np.zeros(3, int), np.full((3, 2), 0.5)))


def test_the_strength_comes_from_the_validation_data():
    """Many noisy features and few frames: the strongest penalty that still separates does best, and test is unseen."""
    random = np.random.RandomState(0)

    def draw(number):
        labels = np.arange(number) % 2
        features = random.randn(number, 60)
        features[:, :20] += 0.45 * (2 * labels[:, None] - 1)
        return features, labels

    train, val, test = draw(40), draw(400), draw(400)
    probabilities, strength = linear_probabilities(train, val, test[0], 2)
    assert strength < 1
    assert np.mean(probabilities.argmax(axis=1) == test[1]) > 0.75
    swapped, _ = linear_probabilities(train, (val[0], 1 - val[1]), test[0], 2)
    assert not np.array_equal(swapped, probabilities)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match='are positive'):
        knn_probabilities(np.ones((2, 2)), np.zeros(2, int), np.ones((1, 2)), 2, k=0)
