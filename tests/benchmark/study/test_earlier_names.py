"""Compositions keep the hash that their earlier names gave them, and no two share one."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest

from vasomim.apis.configs import load_config
from vasomim.benchmark.study.earlier_names import by_earlier_names

CASES = json.loads((Path(__file__).parents[2] / 'models' / 'earlier.json').read_text(encoding='utf-8'))
VESSELS, UNIFORM = {'type': 'VesselGuidance', 'eta': 0.5}, {'type': 'UniformMasking', 'ratio': 0.5}


def composed(**changes: object) -> dict:
    config = {key: CASES['vasomim']['config'][key] for key in ('backbone', 'neck', 'head', 'masking', 'segmentor')}
    losses = {'cons': {'type': 'AnatomicalConsistencyLoss'}}
    return {**config, 'type': 'MaskedImageModeling', 'guidance': VESSELS, 'losses': losses, **changes}


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('vasomim', {}),
        ('vasomim', {'masking': {'type': 'AnatomyMasking', 'ratio': 0.5}}),
        ('vasomim_v1', {'guidance': {**VESSELS, 'eta': 1.0}}),
        ('vasomim_no_guidance', {'guidance': None, 'masking': UNIFORM}),
        ('vasomim_no_consistency', {'losses': None}),
        ('vasomim_no_consistency', {'losses': {'cons': None}}),
        ('vasomim_with_neither', {'guidance': None, 'masking': UNIFORM, 'losses': None}),
        ('mae', {'guidance': None, 'masking': {**UNIFORM, 'ratio': 0.75}, 'losses': None, 'segmentor': None}),
    ],
)
def test_what_could_be_said_before_is_said_as_before(name: str, changes: dict) -> None:
    config = composed(**changes)
    before = copy.deepcopy(config)
    assert by_earlier_names(config) == CASES[name]['config']
    assert config == before


@pytest.mark.parametrize(
    'changes',
    [
        {'masking': {'type': 'AnatomyMasking', 'ratio': 0.5, 'unit': 2}},
        {'guidance': {'type': 'OtherGuidance', 'eta': 0.5}},
        {'losses': {'cons': {'type': 'AnatomicalConsistencyLoss'}, 'other': {'type': 'Other'}}},
        {'backbone': {**CASES['simmim']['config']['backbone']}},
        {'something_new': 1},
        {'type': 'VesselMAE'},
    ],
)
def test_what_could_not_be_said_stays_as_it_is(changes: dict) -> None:
    config = composed(**changes)
    assert by_earlier_names(config) == config


def test_different_compositions_stay_different() -> None:
    found = [
        by_earlier_names(composed(guidance=guidance, masking=masking, losses=losses, segmentor=segmentor))
        for guidance, masking, losses, segmentor in itertools.product(
            (None, VESSELS, {**VESSELS, 'eta': 1.0}),
            (UNIFORM, {**UNIFORM, 'ratio': 0.6}, {**UNIFORM, 'unit': 2}, {'type': 'AnatomyMasking', 'ratio': 0.5}),
            (None, {'cons': {'type': 'AnatomicalConsistencyLoss'}}),
            (None, {'type': 'UNeXt'}),
        )
    ]
    texts = [json.dumps(config, sort_keys=True) for config in found]
    assert len(set(texts)) == len(texts) == 48


@pytest.mark.parametrize('name', ['mae', 'simmim', 'vasomim', 'vasomim_v1', 'quickstart'])
def test_the_shipped_configs_have_earlier_names(name: str) -> None:
    model = load_config(f'vasomim::pretrain/{name}.py').model.to_dict()
    assert by_earlier_names(model)['type'] in ('AngiogramMAE', 'AngiogramSimMIM', 'VasoMIM')
