"""Options of entries arrive in the configs that run, in the order that is documented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vasomim.benchmark.study.loading import load_entries
from vasomim.benchmark.study.resolve import Fingerprints, config_hash, finetuning_config, pretraining_config
from vasomim.data.pack_format import INDEX
from vasomim.errors import ConfigError, DatasetError

ENTRIES = load_entries()
TASK, METHOD = ENTRIES.task('arcade_v'), ENTRIES.method('mae')
PROTOCOL = replace(
    ENTRIES.protocol('arcade_cpu'),
    finetuning={
        'options': {'all': {'train_cfg.max_epochs': 3}, 'arcade_v': {'train_cfg.max_epochs': 4}},
        'few_labels': {0.1: {'train_cfg.max_epochs': 30}},
    },
)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Folders of frames, empty: a config names them, and nothing is read."""
    for name in ('arcade/arcade_v', 'arcade_pool', 'arcade_synthetic_pool'):
        (tmp_path / name).mkdir(parents=True)
    return str(tmp_path)


@pytest.mark.parametrize(('fraction', 'epochs'), [(1.0, 4), (0.5, 4), (0.1, 30)])
def test_few_labels_have_options_of_their_own(data: str, fraction: float, epochs: int) -> None:
    cfg = finetuning_config(TASK, METHOD, PROTOCOL, 2, fraction, data)
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.dataset.get('label_fraction', 1.0) == fraction
    assert cfg.randomness.seed == 2


def test_from_scratch_all_layers_learn_at_one_rate(data: str) -> None:
    rates = {
        name: finetuning_config(TASK, ENTRIES.method(name), PROTOCOL, 0, 1.0, data).optim_wrapper.paramwise_cfg
        for name in ('mae', 'scratch')
    }
    assert (rates['mae'].layer_decay, rates['scratch'].layer_decay) == (0.75, 1.0)


def test_a_method_may_have_frames_of_its_own(data: str) -> None:
    roots = {}
    for name in ('vasomim', 'vasomim_synthetic'):
        cfg = pretraining_config(ENTRIES.method(name), PROTOCOL, data)
        roots[name] = Path(cfg.train_dataloader.dataset.data_root).name
        assert cfg.val_dataloader.dataset.data_root == cfg.train_dataloader.dataset.data_root
    assert roots == {'vasomim': 'arcade_pool', 'vasomim_synthetic': 'arcade_synthetic_pool'}


def test_ablations_differ_from_their_method_in_what_they_ablate(data: str) -> None:
    methods = ('vasomim', 'vasomim_v1', 'vasomim_no_guidance', 'vasomim_no_consistency', 'mae', 'mae_half', 'simmim')
    configs = {name: pretraining_config(ENTRIES.method(name), PROTOCOL, data) for name in methods}
    assert len({config_hash(cfg) for cfg in configs.values()}) == len(methods)
    assert configs['vasomim_no_guidance'].model.guidance is None
    assert configs['vasomim_no_consistency'].model.losses is None
    assert configs['vasomim_v1'].model.guidance.eta == 1.0
    for section in ('train_dataloader', 'optim_wrapper', 'train_cfg', 'param_scheduler', 'randomness'):
        assert all(cfg[section] == configs['vasomim'][section] for cfg in configs.values()), section
    assert all(cfg.model.backbone.arch == 'tiny' for cfg in configs.values())


def test_an_option_that_nothing_reads_names_its_file(data: str) -> None:
    wrong = replace(PROTOCOL, finetuning={'options': {}, 'few_labels': {0.1: {'train_cfg.max_epoch': 9}}})
    with pytest.raises(ConfigError, match=r'arcade_cpu\.yaml: .*max_epoch'):
        finetuning_config(TASK, METHOD, wrong, 0, 0.1, data)


def test_frames_have_the_hash_of_what_the_reader_finds_packed_or_behind_links(tmp_path: Path) -> None:
    def fingerprint(folder: Path) -> str:
        return Fingerprints(tmp_path / 'none.json').frames(folder, None)

    hashes = []
    for number in (1, 2):
        source, linked, packed = (tmp_path / f'{kind}{number}' for kind in ('source', 'linked', 'packed'))
        (source / 'series').mkdir(parents=True)
        (source / 'series/0.png').write_bytes(bytes([number]))
        linked.mkdir()
        (linked / 'series').symlink_to(source / 'series')
        packed.mkdir()
        (packed / INDEX).write_text(f'{{"shards": ["{number}"]}}')
        assert fingerprint(linked) == fingerprint(source)
        hashes += [fingerprint(source), fingerprint(packed)]
    assert len(set(hashes)) == 4
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match='there is no image'):
        fingerprint(tmp_path / 'empty')
