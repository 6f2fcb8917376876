"""Parameter groups: which parameters decay, and how fast each layer of a ViT learns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from vasomim.errors import ConfigError, did_you_mean
from vasomim.registry import OPTIM_WRAPPER_CONSTRUCTORS

OPTIONS = ('layer_decay', 'no_decay', 'backbone')
EMBEDDING = ('patch_embed', 'cls_token', 'pos_embed', 'mask_token', 'register_tokens', 'pre_norm')
LAYER = re.compile(r'layers\.(\d+)\.')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor:
    """Builds an optimizer with few, named parameter groups.

    Frozen parameters are left out altogether. Biases and parameters of one dimension do not decay; tokens and position
    embeddings, which have three, do unless ``no_decay`` names them. The groups are ordered from the highest learning
    rate down, so that the rate that is logged is the one of the config.

    Args:
        optim_wrapper_cfg: ``optimizer`` (with ``lr``), and the options of the ``OptimWrapper`` (``type`` included).
        paramwise_cfg: ``layer_decay``: factor on the learning rate from one layer to the one before, in (0, 1], 1.0 =
            none. ``no_decay``: name or names of further parameters without weight decay, such as ('cls_token',).
            ``backbone``: prefix of the ViT in the model, 'backbone' unless said.

    Raises:
        ConfigError: If ``paramwise_cfg`` has another key, ``layer_decay`` leaves its range, or nothing is trainable.

    Source: no weight decay on parameters of one dimension, arXiv 2602.11536; layer-wise decay, arXiv 2106.08254.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        options = dict(paramwise_cfg or {})
        for name in options:
            if name not in OPTIONS:
                raise ConfigError(
                    f'optim_wrapper.paramwise_cfg.{name}',
                    f'there is no such option.{did_you_mean(name, OPTIONS)}',
                    f'The options are {", ".join(OPTIONS)}.',
                )
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer'))
        self.layer_decay = float(options.get('layer_decay', 1.0))
        no_decay = options.get('no_decay', ())
        self.no_decay = (no_decay,) if isinstance(no_decay, str) else tuple(no_decay)
        self.prefix = options.get('backbone', 'backbone') + '.'
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(
                'optim_wrapper.paramwise_cfg.layer_decay',
                f'{self.layer_decay} is not in (0, 1].',
                'Take 1.0 for no decay, or a value such as 0.75.',
            )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a model, which may be wrapped for several processes."""
        inner: Any = model.module if is_model_wrapper(model) else model
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': self.groups(inner.named_parameters())})
        return OPTIM_WRAPPERS.build({'type': 'OptimWrapper', **self.wrapper_cfg, 'optimizer': optimizer})

    def groups(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[dict]:
        """Return parameter groups as an optimizer takes them, merged by (learning rate, decay or not).

        Args:
            parameters: Names and parameters, frozen ones included.
        """
        trained = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
        if not trained:
            raise ConfigError('model', 'it has no trainable parameter.', 'Unfreeze a part of it.')
        depth = 1 + max((self.layer(name, 0) for name, _ in trained), default=0)
        groups: dict[tuple[int, bool], dict] = {}
        for name, parameter in trained:
            layer = self.layer(name, depth) if self.layer_decay < 1 else depth
            decays = parameter.ndim > 1 and name.rpartition('.')[2] not in ('bias', *self.no_decay)
            group = groups.setdefault((layer, decays), self.new_group(layer, depth, decays))
            group['params'].append(parameter)
        return [groups[key] for key in sorted(groups, reverse=True)]

    def new_group(self, layer: int, depth: int, decays: bool) -> dict:
        """Return an empty group for a layer of a ViT."""
        part = f'layer_{layer}' if self.layer_decay < 1 else 'all'
        rate = self.optimizer_cfg['lr'] * self.layer_decay ** (depth - layer)
        group = {'params': [], 'name': part if decays else f'{part}_no_decay', 'lr': rate}
        return group if decays else {**group, 'weight_decay': 0.0}

    def layer(self, name: str, depth: int) -> int:
        """Return the layer of a parameter: 0 the embedding, i + 1 the layer ``layers.i``, ``depth`` all behind them.

        Args:
            name: The parameter's name in the model.
            depth: Number of layers + 1.
        """
        if not name.startswith(self.prefix):
            return depth
        inside = name[len(self.prefix) :]
        if inside.split('.')[0] in EMBEDDING:
            return 0
        found = LAYER.match(inside)
        return int(found[1]) + 1 if found else depth
