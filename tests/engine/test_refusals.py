"""Values that a class refuses while it is built are errors of the config; other faults keep their traceback."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

import vasomim.models  # noqa: F401 - registers
from vasomim.engine.refusals import blamed_on
from vasomim.errors import ConfigError
from vasomim.registry import PARAM_SCHEDULERS


@MODELS.register_module()
class Parent(nn.Module):
    """Builds what it holds."""

    def __init__(self, part: dict) -> None:
        super().__init__()
        self.part = MODELS.build(part)

    def work(self) -> None:
        raise ValueError('a fault at work')


def config(**model) -> Config:
    return Config(dict(default_scope='mmpretrain', model=dict(type='Parent', **model)))


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        (dict(type='mmpretrain.UniformMasking', ratio=1.5), r'model\.part: ratio must lie inside \(0, 1\), not 1\.5\.'),
        (dict(type='mmpretrain.UniformMasking', ratio='abc'), r'model\.part: .* not supported between'),
        (dict(type='mmpretrain.UniformMasking', rati=0.5), r"model\.part\.rati: .* Did you mean 'ratio'"),
        ('UniformMasking', r'model: cfg should be a dict'),
    ],
)
def test_a_refused_value_names_its_section(part, message):
    cfg = config(part=part)
    with pytest.raises(ConfigError, match=message) as caught, blamed_on(cfg):
        MODELS.build(cfg.model)
    assert caught.value.__cause__ is not None


def test_a_refused_value_of_a_loader_and_of_a_schedule():
    cfg = Config(dict(default_scope='mmpretrain', param_scheduler=[dict(type='WarmupCosineLR', warmup=7)]))
    with pytest.raises(ConfigError, match=r'param_scheduler\.0: warmup must lie in'), blamed_on(cfg):
        PARAM_SCHEDULERS.build(cfg.param_scheduler[0], default_args=dict(optimizer=None))
    loader = dict(batch_size=0, dataset=[1, 2], sampler=dict(type='DefaultSampler'), num_workers=0)
    with pytest.raises(ConfigError, match='batch_size should be a positive integer'), blamed_on(cfg):
        Runner.build_dataloader(loader)


def test_a_fault_that_is_not_the_configs_passes():
    cfg = config(part=dict(type='mmpretrain.UniformMasking'))
    with pytest.raises(ValueError, match='outside'), blamed_on(cfg):
        raise ValueError('outside of any building')
    built = MODELS.build(cfg.model)
    with pytest.raises(ValueError, match='a fault at work'), blamed_on(cfg):
        built.work()
