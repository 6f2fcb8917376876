"""Overlap of two masks: the Dice similarity coefficient per image, per class and pooled over a set."""

from __future__ import annotations

import numpy as np


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice similarity coefficient, 2 |P and T| / (|P| + |T|), in [0, 1].

    Args:
        prediction: Mask of any shape; everything but 0 counts.
        truth: Mask of the same shape.

    Returns:
        The coefficient; 1 where both masks are empty, 0 where one of them is.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(prediction, truth)
    predicted, true = prediction.astype(bool), truth.astype(bool)
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else 1.0


def class_counts(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Count what the Dice coefficient of each class is made of.

    Args:
        prediction: Class indices of any shape: 0 is the background, 1 to ``num_classes`` are the classes.
        truth: Class indices of the same shape.
        num_classes: Number of classes without the background.

    Returns:
        For each class the pixels |P and T|, |P| and |T|, (num_classes, 3) int64; the background has no row.

    Raises:
        ValueError: If the shapes differ or an index leaves its range.
    """
    check_shapes(prediction, truth)
    for name, labels in (('prediction', prediction), ('truth', truth)):
        if labels.size and not 0 <= labels.min() <= labels.max() <= num_classes:
            raise ValueError(f'The {name} holds {labels.min()} to {labels.max()}; expected 0 to {num_classes}.')
    predicted = np.bincount(prediction.ravel(), minlength=num_classes + 1)
    true = np.bincount(truth.ravel(), minlength=num_classes + 1)
    both = np.bincount(truth[prediction == truth], minlength=num_classes + 1)
    return np.stack([both, predicted, true], axis=1)[1:]


def dice_of_counts(counts: np.ndarray) -> np.ndarray:
    """Dice coefficients from pixel counts.

    Args:
        counts: |P and T|, |P| and |T| in the last axis, (..., 3); from :func:`class_counts` or a sum of its results.

    Returns:
        Coefficients in [0, 1], (...) float64; NaN where a class is absent in both masks.
    """
    both, predicted, true = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    total = predicted + true
    return np.divide(2 * both, total, out=np.full_like(total, np.nan), where=total > 0)


def class_dice(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Dice coefficient of each class in one image.

    Args:
        prediction: Class indices of any shape: 0 is the background, 1 to ``num_classes`` are the classes.
        truth: Class indices of the same shape.
        num_classes: Number of classes without the background.

    Returns:
        Coefficients in [0, 1], (num_classes,); 0 for a class in one of the masks only, NaN for a class in neither.

    Raises:
        ValueError: If the shapes differ or an index leaves its range.
    """
    return dice_of_counts(class_counts(prediction, truth, num_classes))


def pooled_dice(counts: np.ndarray) -> np.ndarray:
    """Dice coefficient of each class over the pixels of all images together, so that a large vessel weighs more.

    Args:
        counts: Results of :func:`class_counts`, one for each image, (images, classes, 3).

    Returns:
        Coefficients in [0, 1], (classes,); NaN for a class that is nowhere in truth or prediction.
    """
    return dice_of_counts(np.sum(counts, axis=0))


def check_shapes(prediction: np.ndarray, truth: np.ndarray) -> None:
    """Raise ValueError if the shapes of two masks differ."""
    if prediction.shape != truth.shape:
        raise ValueError(f'The masks differ in shape: {prediction.shape} and {truth.shape}.')
