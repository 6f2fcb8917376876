"""Weights from a file, for models that know no checkpoints: built by the name ``vasomim.StoredWeights``."""

from __future__ import annotations

from torch import nn

from vasomim.checkpoints.loading import load_weights
from vasomim.registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class StoredWeights:
    """Loads all weights of a module.

    Args:
        weights: Safetensors or PyTorch file, or the name of weights that come with the package.
    """

    def __init__(self, weights: str) -> None:
        self.weights = weights

    def __call__(self, module: nn.Module) -> None:
        """Load.

        Raises:
            CheckpointError: If the weights cannot be read or belong to another architecture.
        """
        load_weights(module, self.weights)
