"""Every downstream config builds: its keys are known, its model trains a step, its data and metrics exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, DefaultScope

from tests.models.builders import ARCH
from tests.test_configs import CONFIGS, levels
from vasomim import compat
from vasomim.apis.config_parts import use_data
from vasomim.apis.configs import load_config
from vasomim.engine.strict import check_config, find, is_ours
from vasomim.prepare.catalog import all_datasets
from vasomim.registry import RUNNERS

compat.prepare()

DOWNSTREAM = CONFIGS / 'downstream'
NAMES = sorted(str(path.relative_to(DOWNSTREAM)) for path in DOWNSTREAM.rglob('*.py'))


@pytest.fixture(autouse=True)
def no_scope_left_behind():
    yield
    DefaultScope._instance_dict.clear()


def test_each_set_has_a_config() -> None:
    published = {each.name for dataset in all_datasets() for each in dataset.sets}
    assert {Path(name).parent.name for name in NAMES} == {*published, 'folder'}
    assert len(published) == 7


@pytest.mark.parametrize('name', NAMES)
def test_config_builds(name: str) -> None:
    config = Config.fromfile(DOWNSTREAM / name)
    check_config(config)
    if config.model.backbone.type == 'UNet':
        config.model.backbone.base_channels = 8
        config.model.decode_head.update(in_channels=8, channels=8)
    else:
        config.model.backbone.arch = ARCH
    DefaultScope.get_instance(name.replace('/', '_'), scope_name=config.default_scope)
    model = MODELS.build(config.model)
    assert len(model.extract_feat(torch.zeros(1, 3, 224, 224))) == 5
    for part in ('train', 'val', 'test'):
        dataset = config[f'{part}_dataloader'].dataset
        assert dataset.split == part and dataset.data_root
        reader = find(dataset.type, DATASETS, config.default_scope)
        assert is_ours(reader)
        assert all(TRANSFORMS.build(step) is not None for step in dataset.pipeline)
    assert config.runner_type in RUNNERS
    if config.default_scope == 'mmseg':
        assert len(Evaluator(config.test_evaluator).metrics) == 1
        of_set = ('background', 'vessel') if reader.SET is None else reader.METAINFO['classes']
        assert config.model.decode_head.num_classes == len(of_set)


@pytest.mark.parametrize('name', NAMES)
def test_a_config_inherited_from_the_package_is_the_config(name: str, tmp_path) -> None:
    (tmp_path / 'mine.py').write_text(f"_base_ = 'vasomim::downstream/{name}'\n")
    assert load_config(str(tmp_path / 'mine.py')).to_dict() == load_config(f'vasomim::downstream/{name}').to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_inheritance_is_at_most_two_levels_deep(name: str) -> None:
    assert levels(DOWNSTREAM / name) <= 2
    assert '_delete_' not in (DOWNSTREAM / name).read_text()


def test_other_data_reaches_loaders_and_evaluators(tmp_path) -> None:
    config = Config.fromfile(DOWNSTREAM / 'stenosis/detection.py')
    use_data(config, str(tmp_path))
    roots = {config[f'{part}_dataloader'].dataset.data_root for part in ('train', 'val', 'test')}
    assert roots == {str(tmp_path)}
    assert config.val_evaluator.ann_file == str(tmp_path / 'val.json')
    assert config.test_evaluator.ann_file == str(tmp_path / 'test.json')
