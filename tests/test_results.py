"""The figures of docs/results.md follow from the scores of each image that lie beside it."""

import csv

import numpy as np
import pytest

from vasomim.benchmark.statistics import bootstrap_interval, sign_flip, wilcoxon


@pytest.mark.parametrize('metric', ['DSC', 'clDice'])
def test_the_first_comparison_follows_from_its_cases(project_root, metric):
    with (project_root / 'docs/results/arcade_v_cases.csv').open(encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert len({row['case'] for row in rows}) == len(rows) == 300
    scratch, vasomim = (np.array([float(row[f'{arm}_{metric}']) for row in rows]) for arm in ('scratch', 'vasomim'))
    gain = vasomim - scratch
    lines = (project_root / 'docs/results.md').read_text(encoding='utf-8').splitlines()
    cells = {
        line.split('|')[1].strip(): [cell.strip(' *') for cell in line.split('|')] for line in lines if '|' in line
    }
    column = {'DSC': 3, 'clDice': 4}[metric]
    assert cells['from scratch'][column] == f'{scratch.mean():.3f}'
    assert cells['VasoMIM'][column] == f'{vasomim.mean():.3f}'
    said = cells['difference (95 % interval over images)'][column]
    low, high = bootstrap_interval(gain[None])
    assert said == f'{gain.mean():.3f} ({low:.3f} to {high:.3f})'
    assert wilcoxon(gain) <= 1e-4
    assert float(np.squeeze(sign_flip(gain))) <= 1.1e-4
    if metric == 'DSC':
        assert round(100 * np.mean(gain > 0)) == 75
