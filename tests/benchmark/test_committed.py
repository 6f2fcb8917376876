"""What is committed beside the benchmark: results that can be read, and the encoder that they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vasomim.benchmark.entries import load_entries
from vasomim.benchmark.resolve import file_sha256
from vasomim.benchmark.store import Store
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


def test_cells_of_a_method_share_the_encoder_of_its_pretraining() -> None:
    store = Store(FOLDER / 'results')
    encoders = {item.method: (item.weights or {})['file_sha256'] for item in store.pretrainings()}
    for cell in store.cells():
        used = (cell.weights or {}).get('file_sha256')
        assert used == encoders.get(cell.method), cell.cell
    assert encoders['vasomim'] == file_sha256(ENCODER)
    assert encoders['vasomim'] in (FOLDER / 'encoders' / 'README.md').read_text(encoding='utf-8')


def test_the_committed_encoder_tells_vessel_patches_from_others_better_than_random_weights() -> None:
    """By one linear layer on frozen tokens, fitted on four simulated frames and tried on four others."""
    frames = [simulate_frame(seed, SimulatorConfig(size=224)) for seed in range(8)]
    vessel = [frame.vessels.reshape(14, 16, 14, 16).any(axis=(1, 3)).ravel() for frame in frames]
    extractor = FeatureExtractor(ENCODER)
    assert extractor.size == 224 and extractor(frame.image for frame in frames).shape == (8, 192)
    trained = separation(extractor, frames, vessel)
    torch.manual_seed(0)
    for parameter in extractor.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    assert trained > separation(extractor, frames, vessel) + 0.05  # 0.67 or more against 0.59 when it was measured.


def separation(extractor: FeatureExtractor, frames: list, vessel: list[np.ndarray]) -> float:
    """Return the share of pairs of a vessel patch and another one that a linear score puts in order (the AUC)."""
    images = torch.from_numpy(np.stack([frame.image for frame in frames])).float()[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        tokens = extractor.tokens((images - extractor.mean) / extractor.std)[:, 1:].double().numpy()
    fit, tried = tokens[:4].reshape(-1, 192), tokens[4:].reshape(-1, 192)
    target = np.concatenate(vessel[:4]).astype(float)
    mean, spread = fit.mean(axis=0), fit.std(axis=0) + 1e-6
    fit, tried = (fit - mean) / spread, (tried - mean) / spread
    weights = np.linalg.solve(fit.T @ fit + 10.0 * np.eye(192), fit.T @ (target - target.mean()))
    score, truth = tried @ weights, np.concatenate(vessel[4:])
    ahead = score[truth][:, None] - score[~truth][None]
    return float((ahead > 0).mean() + (ahead == 0).mean() / 2)
