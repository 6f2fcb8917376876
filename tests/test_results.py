"""The figures of docs/results.md are those of the committed results."""

import json
import re


def test_the_figures_of_the_second_study_are_those_of_its_page(project_root):
    page = project_root / 'benchmark/leaderboard/arcade_cpu_per_seed/leaderboard.json'
    board = json.loads(page.read_text(encoding='utf-8'))
    text = (project_root / 'docs/results.md').read_text(encoding='utf-8')
    rows = {row['method']: row for row in board['comparisons']}
    number = r'([\d.]+)'
    said = f'VasoMIM is {number} above MAE .95 % interval {number} to {number}, '
    said += f'p {number} after Holm, detectable {number}[)]'
    found = re.search(said, text)
    row = rows['vasomim']
    shown = [f'{100 * row[key]:.2f}' for key in ('difference', 'low', 'high')]
    assert found and [*found.groups()] == [*shown, f'{row["p_holm"]:.3f}', f'{100 * row["detectable"]:.2f}']
    found = re.search(r'MAE ([\d.]+) above training from scratch \(([\d.]+) to ([\d.]+), p ([\d.]+)\)', text)
    row = rows['scratch']  # There it is scratch - MAE.
    shown = [f'{-100 * row[key]:.2f}' for key in ('difference', 'high', 'low')]
    assert found and [*found.groups()] == [*shown, f'{row["p_holm"]:.3f}']
    assert row['significant'] and rows['vasomim']['significant']


def test_the_differences_in_the_text_are_those_of_the_leaderboard(project_root):
    board = json.loads((project_root / 'benchmark/leaderboard/leaderboard.json').read_text(encoding='utf-8'))
    text = (project_root / 'docs/results.md').read_text(encoding='utf-8')
    rows = {
        (row['task'], row['fraction'], row['method']): {
            key: f'{100 * row[key]:.2f}' for key in ('difference', 'low', 'high', 'detectable')
        }
        for row in board['comparisons']
        if row['metric'] in ('DSC', 'F1')
    }
    found = re.search(
        r'VasoMIM is ([\d.]+) points of DSC above MAE \(95 % interval ([\d.]+) to ([\d.]+), .*detectable ([\d.]+)\)',
        text,
    )
    assert found and found.groups() == tuple(rows['arcade_v', 1.0, 'vasomim'].values())
    found = re.search(r'p ([\d.]+) after Holm', text)
    holm = next(
        row['p_holm']
        for row in board['comparisons']
        if (row['task'], row['fraction'], row['method']) == ('arcade_v', 1.0, 'vasomim')
    )
    assert found and found[1] == f'{holm:.3f}'
    found = re.search(r'MAE ([\d.]+) above training from scratch \(([\d.]+) to ([\d.]+)\)', text)
    turned = [
        rows['arcade_v', 1.0, 'scratch'][key].lstrip('-') for key in ('difference', 'high', 'low')
    ]  # There it is scratch - MAE.
    assert found and list(found.groups()) == turned
    found = re.search(r'keeps the guidance, is ([\d.]+) below MAE \((-[\d.]+) to ([\d.]+)\)', text)
    below = rows['arcade_v', 1.0, 'vasomim_no_consistency']
    assert found and [f'-{found[1]}', found[2], found[3]] == [below[key] for key in ('difference', 'low', 'high')]
    for said, place in {
        r'a tenth of the labels the gap to MAE is ([\d.]+) \(([\d.]+) to ([\d.]+)\)': ('arcade_v', 0.1, 'vasomim'),
        r'keeps the consistency loss, is ([\d.]+) above MAE \(([\d.]+) to ([\d.]+)\)': (
            'arcade_v',
            1.0,
            'vasomim_no_guidance',
        ),
        r'SimMIM scores as MAE \((-?[\d.]+), (-?[\d.]+) to ([\d.]+)\)': ('arcade_v', 1.0, 'simmim'),
        r'MAE at 0.50 scores as MAE at 0.75 \((-?[\d.]+), (-?[\d.]+) to ([\d.]+)\)': ('arcade_v', 1.0, 'mae_half'),
        r'half of the labels it is ([\d.]+) \(([\d.]+) to ([\d.]+)\)': ('arcade_v', 0.5, 'vasomim'),
        r'a difference of ([\d.]+) \((-[\d.]+) to ([\d.]+)\)': ('arcade_vs', 1.0, 'vasomim'),
        r'VasoMIM is ([\d.]+) above MAE \(([\d.]+) to ([\d.]+), p': ('arcade_s_boxes', 1.0, 'vasomim'),
        r'stenoses of ARCADE-S it is ([\d.]+) \(([\d.]+) to ([\d.]+)\)': ('arcade_s', 1.0, 'vasomim'),
    }.items():
        found = re.search(said, text)
        assert found and found.groups() == tuple(rows[place].values())[:3]
