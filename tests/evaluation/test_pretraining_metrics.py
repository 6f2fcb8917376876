"""The two metrics of a pre-training's validation, built as a config names them."""

from __future__ import annotations

import pytest
import torch

import vasomim.evaluation.pretraining_metrics  # noqa: F401
from vasomim.errors import ConfigError
from vasomim.registry import METRICS


def test_reconstruction_loss_is_the_mean_over_frames_of_all_batches():
    metric = METRICS.build(dict(type='ReconstructionLoss'))
    metric.process({}, [{'loss_rec': torch.tensor(0.5)}, {'loss_rec': torch.tensor(0.25)}])
    metric.process({}, [{'loss_rec': torch.tensor(0.75)}])
    assert metric.evaluate(3) == {'held_out/loss_rec': pytest.approx(0.5)}


def test_pseudo_mask_dice_is_the_mean_over_frames():
    metric = METRICS.build(dict(type='PseudoMaskDice'))
    anatomy = torch.tensor([[[1, 1, 0, 0]]])
    found = [torch.tensor([[[1, 1, 0, 0]]]), torch.tensor([[[1, 0, 0, 0]]]), torch.tensor([[[0, 0, 1, 1]]])]
    metric.process({}, [{'pred_vessels': prediction, 'anatomy': anatomy} for prediction in found])
    assert metric.evaluate(3) == {'held_out/dice': pytest.approx((1 + 2 / 3 + 0) / 3)}


def test_a_model_without_a_held_out_loss_is_named():
    metric = METRICS.build(dict(type='ReconstructionLoss'))
    with pytest.raises(ConfigError, match='val_evaluator'):
        metric.process({}, [{'loss_rec': torch.tensor(0.5)}, {}])
