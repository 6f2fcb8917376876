"""Every config builds: its keys are known, its model trains a step, its loaders and schedule are described."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from vasomim import data, engine  # noqa: F401  registers what the configs name
from vasomim.engine.strict import check_config
from vasomim.registry import DATASETS, METRICS, MODELS, RUNNERS, TRANSFORMS

CONFIGS = Path(__file__).parent.parent / 'configs'
OTHERS = {'_base_', 'downstream'}  # Downstream configs are built in test_downstream_configs.py.
NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py') if not OTHERS.intersection(path.parts))
SIZES = {'tiny': 5.5e6, 'small': 21.7e6, 'base': 85.8e6, 'large': 303.3e6, 'huge': 630.8e6}


def levels(path: Path) -> int:
    """Depth of the inheritance below a config."""
    bases = Config._get_base_files(str(path))  # type: ignore[attr-defined]
    return 1 + max((levels((path.parent / base).resolve()) for base in bases), default=-1)


def test_the_configs_are_found() -> None:
    assert {'pretrain/vasomim.py', 'pretrain/mae.py', 'segmentor/unext_s.py'} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_config_builds(name: str) -> None:
    config = Config.fromfile(CONFIGS / name)
    check_config(config)
    if 'backbone' in config.model:
        config.model.backbone.arch = dict(embed_dims=24, num_layers=1, num_heads=3, feedforward_channels=48)
    if config.model.get('neck', {}).get('decoder_embed_dim'):
        config.model.neck.update(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
    if 'segmentor' in config.model:
        config.model.segmentor.weights = None
    model = MODELS.build(config.model)
    assert model(torch.zeros(1, 3, 224, 224), mode='tensor') is not None
    for loader in (config.train_dataloader, config.val_dataloader):
        assert loader.dataset.type in DATASETS
        assert all(TRANSFORMS.build(step) is not None for step in loader.dataset.pipeline)
    assert METRICS.build(config.val_evaluator) is not None
    assert config.runner_type in RUNNERS


@pytest.mark.parametrize('name', NAMES)
def test_inheritance_is_at_most_two_levels_deep(name: str) -> None:
    assert levels(CONFIGS / name) <= 2
    assert '_delete_' not in (CONFIGS / name).read_text()


@pytest.mark.parametrize(('size', 'parameters'), SIZES.items())
def test_sizes_are_those_of_the_field(size: str, parameters: float) -> None:
    with torch.device('meta'):
        backbone = MODELS.build(dict(type='MaskedViT', arch=size))
    assert sum(tensor.numel() for tensor in backbone.parameters()) == pytest.approx(parameters, rel=0.01)
    assert backbone.patch_size == (14 if size == 'huge' else 16)


def test_decoder_follows_the_size_of_the_encoder() -> None:
    config = Config.fromfile(CONFIGS / 'pretrain/mae.py')
    config.merge_from_dict({'model.backbone.arch': 'tiny', 'model.neck.decoder_depth': 1})
    model = MODELS.build(config.model)
    assert model.neck.decoder_embed.in_features == 192
    assert model.neck.decoder_pred.out_features == 768
