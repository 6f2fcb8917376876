"""What is committed beside the benchmark: results that can be read, and the encoder that they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vasomim.benchmark.entries import load_entries
from vasomim.benchmark.jobs import SCRATCH, weights_input
from vasomim.benchmark.resolve import file_sha256
from vasomim.benchmark.store import Store
from vasomim.evaluation.probing import auc, linear_probabilities
from vasomim.features import FeatureExtractor
from vasomim.synthetic.config import SimulatorConfig
from vasomim.synthetic.frame import simulate_frame

FOLDER = Path(__file__).parents[2] / 'benchmark'
ENCODER = FOLDER / 'encoders' / 'vasomim_tiny_arcade.safetensors'


def test_every_committed_cell_is_whole_and_planned() -> None:
    store, protocol = Store(FOLDER / 'results'), load_entries().protocol('arcade_cpu')
    cells = store.cells()
    assert cells
    for cell in cells:
        assert protocol.plans(cell.task, cell.method, cell.label_fraction) and cell.seed in protocol.seeds
        scores = store.scores(cell)  # Reads the table, and checks its hash.
        for metric, values in scores.values.items():
            assert cell.scores[metric] == pytest.approx(values.mean(), abs=1e-6), (cell.cell, metric)


def test_cells_start_from_the_encoder_of_their_pretraining_and_those_of_a_task_from_the_same() -> None:
    store = Store(FOLDER / 'results')
    encoders = {weights_input(item.inputs): (item.method, item.weights) for item in store.pretrainings()}
    used: dict[tuple[str, str], set[str | None]] = {}
    for cell in store.cells():
        used.setdefault((cell.task, cell.method), set()).add((cell.weights or {}).get('file_sha256'))
        if cell.weights is None:
            assert cell.inputs['weights'] == SCRATCH and cell.method == 'scratch'
            continue
        method, weights = encoders[cell.inputs['weights']]
        assert method == cell.method and weights is not None
        assert cell.weights['file_sha256'] == weights['file_sha256'], cell.cell
    assert all(len(found) == 1 for found in used.values())
    assert used['arcade_v', 'vasomim'] == {file_sha256(ENCODER)}
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
