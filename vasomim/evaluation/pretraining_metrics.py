"""Metrics that the validation loop of a pre-training reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from vasomim.errors import ConfigError
from vasomim.evaluation.overlap import dice
from vasomim.registry import METRICS


@METRICS.register_module()
class ReconstructionLoss(BaseMetric):
    """Mean reconstruction loss of the held-out frames under fixed masks, ``held_out/loss_rec``."""

    default_prefix = 'held_out'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the loss of each frame, ``loss_rec``, that the model set.

        Raises:
            ConfigError: If it set none.
        """
        if not all('loss_rec' in sample for sample in data_samples):
            cure = (
                'Name another metric as val_evaluator, or train without: val_dataloader, val_cfg, val_evaluator = None.'
            )
            raise ConfigError('val_evaluator', 'the model gives its samples no loss_rec.', cure)
        self.results.extend(float(sample['loss_rec']) for sample in data_samples)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Mean over the frames."""
        return {'loss_rec': float(np.mean(results))}


@METRICS.register_module()
class PseudoMaskDice(BaseMetric):
    """Dice of the segmentor against the extracted anatomy of held-out frames, ``held_out/dice``, mean over frames."""

    default_prefix = 'held_out'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the Dice of each frame's ``pred_vessels`` against its ``anatomy``."""
        self.results.extend(
            dice(sample['pred_vessels'].cpu().numpy(), sample['anatomy'].cpu().numpy()) for sample in data_samples
        )

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Mean over the frames."""
        return {'dice': float(np.mean(results))}
