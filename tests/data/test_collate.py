"""A batch is two tensors, with the pixels of its items."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.dataset import pseudo_collate

from vasomim.data import AngiogramFolder
from vasomim.data.collate import collate_angiograms
from vasomim.engine import PretrainRunner
from vasomim.models import AngiogramPreprocessor

NAMES = [f'{number}.png' for number in range(6)]
PIPELINE = [
    {'type': 'LoadAngiogram'},
    {'type': 'LoadAnatomy'},
    {'type': 'PairedResize', 'size': 32},
    {'type': 'PackAngiogram'},
]


@pytest.fixture
def folder(tmp_path: Path, write_frames, write_maps) -> dict:
    """The config of a data set of frames that differ."""
    write_frames(tmp_path / 'frames', *NAMES)
    write_maps(tmp_path / 'maps', *NAMES)
    root = {'data_root': str(tmp_path / 'frames'), 'anatomy_root': str(tmp_path / 'maps')}
    return {'type': 'mmpretrain.AngiogramFolder', **root, 'pipeline': PIPELINE}


def loader(dataset: dict, **changes: object) -> torch.utils.data.DataLoader:
    sampler = {'type': 'DefaultSampler', 'shuffle': False}
    settings = {'dataset': dataset, 'batch_size': 4, 'num_workers': 1, 'pin_memory': False, 'sampler': sampler}
    return PretrainRunner.build_dataloader({**settings, **changes})


def test_a_worker_hands_on_two_tensors(folder):
    items = AngiogramFolder(folder['data_root'], folder['anatomy_root'], pipeline=PIPELINE)
    batch = next(iter(loader(folder)))
    assert torch.equal(batch['inputs'], torch.stack([items[index]['inputs'] for index in range(4)]))
    assert torch.equal(batch['anatomy'], torch.stack([items[index]['data_samples'].anatomy for index in range(4)]))
    assert batch['inputs'].is_shared() and batch['anatomy'].is_shared()
    assert not any('anatomy' in sample for sample in batch['data_samples'])
    assert [Path(sample.metainfo['img_path']).name for sample in batch['data_samples']] == NAMES[:4]


def test_what_a_config_says_wins(folder):
    batch = next(iter(loader(folder, collate_fn={'type': 'pseudo_collate'})))
    assert isinstance(batch['inputs'], list) and 'anatomy' not in batch


def test_what_does_not_stack_stays_as_it_is(folder):
    whole = AngiogramFolder(folder['data_root'], folder['anatomy_root'], pipeline=PIPELINE)
    without = AngiogramFolder(folder['data_root'], pipeline=[PIPELINE[0], *PIPELINE[2:]])
    larger = AngiogramFolder(folder['data_root'], folder['anatomy_root'], pipeline=[*PIPELINE[:2], PIPELINE[3]])
    mixed = collate_angiograms([whole[0], without[1]])
    assert mixed['inputs'].shape == (2, 1, 32, 32) and 'anatomy' not in mixed
    assert 'anatomy' in mixed['data_samples'][0]
    sizes = collate_angiograms([whole[0], larger[1]])
    assert [frame.shape[-1] for frame in sizes['inputs']] == [32, 64] and 'anatomy' not in sizes
    assert 'anatomy' not in collate_angiograms([without[0]])


def test_the_model_gets_the_same_of_a_stacked_batch_and_of_lists(folder):
    dataset = AngiogramFolder(folder['data_root'], folder['anatomy_root'], pipeline=PIPELINE)
    stacked, lists = (
        AngiogramPreprocessor()(collate([dataset[index] for index in range(4)]))
        for collate in (collate_angiograms, pseudo_collate)
    )
    assert stacked.keys() == lists.keys()
    assert torch.equal(stacked['inputs'], lists['inputs'])
    for one, other in zip(stacked['data_samples'], lists['data_samples'], strict=True):
        assert torch.equal(one.anatomy, other.anatomy) and one.anatomy.shape == (1, 32, 32)
        assert one.metainfo == other.metainfo


MANY = """
import resource, sys, torch
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader
from mmengine.dataset import pseudo_collate
from vasomim.data.collate import collate_angiograms
from vasomim.engine.workers import worker_error
class Frames(torch.utils.data.Dataset):
    def __len__(self):
        return 400
    def __getitem__(self, index):
        sample = DataSample()
        sample.set_field(torch.zeros(1, 8, 8, dtype=torch.uint8), 'anatomy', field_type='data')
        return {'inputs': torch.full((1, 8, 8), index % 256, dtype=torch.uint8), 'data_samples': sample}
collate = collate_angiograms if sys.argv[1] == 'stacked' else pseudo_collate
iterator = iter(DataLoader(Frames(), batch_size=100, num_workers=2, collate_fn=collate))
# Here alone: a worker that meets its own limit ends its queue's thread without a word.
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
try:
    batches = list(iterator)
except (RuntimeError, OSError) as error:
    print(worker_error(error))
else:
    print([int(batch['inputs'].float().mean()) for batch in batches])
"""


@pytest.mark.parametrize(('how', 'printed'), [('stacked', '[49, 149, '), ('lists', 'train_dataloader: more files')])
def test_a_batch_is_larger_than_the_limit_of_open_files(how, printed):
    """Where the frames are handed on one by one, the error says what to do."""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    command = [sys.executable, '-c', MANY, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert printed in done.stdout, done.stdout + done.stderr
