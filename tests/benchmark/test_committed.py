"""What is committed beside the benchmark: results that can be read, and the encoder that they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vasomim.benchmark.results.store import Store
from vasomim.benchmark.study.jobs import SCRATCH, weights_input
from vasomim.benchmark.study.loading import load_entries
from vasomim.benchmark.study.resolve import config_hash, file_sha256, pretraining_config
from vasomim.evaluation.probing import auc, linear_probabilities
from vasomim.inference.features import FeatureExtractor
from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.frame import simulate_frame

FOLDER = Path(__file__).parents[2] / 'benchmark'
ENCODER = FOLDER / 'encoders' / 'vasomim_tiny_arcade.safetensors'
STORE = Store(FOLDER / 'results')
CELLS = {cell.cell: cell for cell in STORE.cells()}


def test_every_committed_cell_is_whole_and_part_of_a_study() -> None:
    named = [(study, place, name) for study in STORE.studies() for place, name in STORE.study(study).items()]
    assert named and {name for _, _, name in named} == set(CELLS)
    for study, place, name in named:
        protocol = load_entries().protocol(study)
        task, method, share, seed = place
        assert CELLS[name].place == place and protocol.plans(task, method, share) and seed in protocol.seeds
    for cell in CELLS.values():
        scores = STORE.scores(cell)  # Reads the table, and checks its hash.
        for metric, values in scores.values.items():
            assert cell.scores[metric] == pytest.approx(values.mean(), abs=1e-6), (cell.cell, metric)


def test_the_studies_plan_the_pretrainings_that_are_committed(tmp_path: Path) -> None:
    """Their configs have the hashes that name them, whatever words the configs are written in."""
    for name in ('arcade_pool', 'arcade_synthetic_pool'):
        for source in ('arcade', 'arcade_frangi'):  # As `vasomim prepare pretrain` lays them out.
            (tmp_path / name / source).mkdir(parents=True)
            (tmp_path / name / source / '0.png').touch()
    entries, planned = load_entries(), {}
    for protocol in (entries.protocol(study) for study in STORE.studies()):
        for method in (entries.method(name) for name in protocol.methods if name != 'scratch'):
            for seed in protocol.seeds if protocol.per_seed else (0,):
                cfg = pretraining_config(method, protocol, str(tmp_path), seed)
                planned[method.name, seed] = config_hash(cfg)
    committed = {(item.method, item.inputs['seed']): item.inputs['config'] for item in STORE.pretrainings()}
    assert committed and committed.items() <= planned.items()


def test_cells_start_from_the_encoder_of_their_pretraining() -> None:
    pretrainings = {weights_input(item.inputs): item for item in STORE.pretrainings()}
    for cell in CELLS.values():
        if cell.weights is None:
            assert cell.inputs['weights'] == SCRATCH and cell.method == 'scratch'
            continue
        pretraining = pretrainings[cell.inputs['weights']]
        assert pretraining.method == cell.method and pretraining.weights is not None
        assert cell.weights['file_sha256'] == pretraining.weights['file_sha256'], cell.cell


@pytest.mark.parametrize('study', STORE.studies())
def test_seeds_share_an_encoder_or_have_one_each_as_the_study_says(study: str) -> None:
    used: dict[tuple[str, str], list[str]] = {}
    for (task, method, _, _), name in STORE.study(study).items():
        if (weights := CELLS[name].weights) is not None:
            used.setdefault((task, method), []).append(weights['file_sha256'])
    per_seed = load_entries().protocol(study).per_seed
    assert used and all(len(set(found)) == (len(found) if per_seed else 1) for found in used.values())


def test_the_committed_encoder_is_the_one_that_the_results_name() -> None:
    first = CELLS[STORE.study('arcade_cpu')['arcade_v', 'vasomim', 1.0, 0]]
    assert first.weights is not None and first.weights['file_sha256'] == file_sha256(ENCODER)
    assert file_sha256(ENCODER) in (FOLDER / 'encoders' / 'README.md').read_text(encoding='utf-8')


def test_the_committed_encoder_tells_vessel_patches_from_others_better_than_random_weights() -> None:
    """By logistic regression on frozen tokens: fitted on four simulated frames, chosen on two, tried on two."""
    frames = [simulate_frame(seed, SimulatorConfig(size=224)) for seed in range(8)]
    extractor = FeatureExtractor(ENCODER)
    assert extractor.size == 224 and extractor(frame.image for frame in frames).shape == (8, 192)
    trained = separation(extractor, frames)
    torch.manual_seed(0)
    for parameter in extractor.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    assert trained > separation(extractor, frames) + 0.2


def separation(extractor: FeatureExtractor, frames: list) -> float:
    """Return the area under the ROC curve of patches with and without vessel."""
    images = torch.from_numpy(np.stack([frame.image for frame in frames])).float()[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        tokens = extractor.tokens((images - extractor.mean) / extractor.std)[:, 1:].numpy()
    labels = np.stack([frame.vessels.reshape(14, 16, 14, 16).any(axis=(1, 3)).ravel() for frame in frames]).astype(int)
    parts = [(tokens[part].reshape(-1, 192), labels[part].ravel()) for part in (slice(4), slice(4, 6), slice(6, 8))]
    train, val, (queries, truth) = parts
    probabilities, _ = linear_probabilities(train, val, queries, classes=2)
    return auc(truth, probabilities)
