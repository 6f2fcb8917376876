"""Real cells, tiny: pre-training, fine-tuning, test, a brought checkpoint, submission."""

from __future__ import annotations

import json
import signal
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.benchmark.studies import COMMON, benchmark, finish, prepare, smoke_protocol
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.study.loading import load_entries
from vasomim.benchmark.study.plan import Settings, make_plan
from vasomim.benchmark.study.selection import select

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of the smoke protocol, as small as they go, and one method of a user's own."""
    folder = tmp_path_factory.mktemp('benchmark')
    frames = {'caxf': 12, 'stenosis': 48, 'pretraining': 20}
    protocol = smoke_protocol(['caxf', 'stenosis'], ['mae', 'timm', 'scratch'], frames, epochs=3)
    method = {'name': 'timm', 'title': 'Brought', 'kind': 'checkpoint', 'checkpoint': 'vit.pth'}
    arch = protocol['pretraining']['options']['all']['model.backbone.arch']
    torch.save(timm_style(arch, 64), folder / 'vit.pth')
    prepare(folder, protocol, [method])
    return folder


def timm_style(arch: dict, size: int) -> dict[str, torch.Tensor]:
    """The names and shapes of a timm ViT of this size, made here."""
    width, hidden = arch['embed_dims'], arch['feedforward_channels']
    shapes = {
        'cls_token': (1, 1, width),
        'pos_embed': (1, 1 + (size // 16) ** 2, width),
        'patch_embed.proj.weight': (width, 3, 16, 16),
        'patch_embed.proj.bias': (width,),
        'norm.weight': (width,),
        'norm.bias': (width,),
    }
    for layer in range(arch['num_layers']):
        for name, shape in {
            'norm1': (width,),
            'attn.qkv': (3 * width, width),
            'attn.proj': (width, width),
            'norm2': (width,),
            'mlp.fc1': (hidden, width),
            'mlp.fc2': (width, hidden),
        }.items():
            shapes[f'blocks.{layer}.{name}.weight'] = shape
            shapes[f'blocks.{layer}.{name}.bias'] = shape[:1]
    generator = torch.Generator().manual_seed(0)
    return {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture(scope='module')
def undisturbed(place: Path) -> Path:
    places = ('--results', 'results', '--work-dir', 'work')
    output = finish(benchmark('run', *COMMON, *places, '--jobs', '2', cwd=place))
    assert '7 jobs finished, 0 failed' in output and 'predicted' in output
    return place


def test_each_cell_has_scores_costs_and_weights(undisturbed) -> None:
    store = Store(undisturbed / 'results')
    cells = store.cells()
    assert len(cells) == 6 and len(store.pretrainings()) == 1
    for cell in cells:
        assert cell.cost['seconds'] > 0 and cell.cost['predicted_seconds'] > 0 and len(cell.curve) == 3
        assert cell.cases == len(store.scores(cell).cases) > 0
        assert (cell.weights is None) == (cell.method == 'scratch')
        if cell.weights is not None:
            assert cell.weights['share'] == 1.0 and cell.weights['missing'] == 0
        if cell.task == 'caxf':
            assert cell.scores['DSC'] == pytest.approx(store.scores(cell).values['DSC'].mean())
            metrics = json.loads((undisturbed / 'work' / 'cells' / cell.cell / 'test' / 'metrics.json').read_text())[
                'metrics'
            ]
            assert cell.scores['DSC'] == pytest.approx(metrics['DSC'], abs=1e-9)
            assert set(cell.subgroups['width']) == {'thin', 'medium', 'wide'}
            assert cell.score_threshold is None
        else:
            file = undisturbed / 'work' / 'cells' / cell.cell / 'validation' / 'predictions' / 'boxes.json'
            boxes = json.loads(file.read_text())
            images = json.loads((undisturbed / 'data' / 'stenosis' / 'val.json').read_text())['images']
            assert {box['image_id'] for box in boxes} <= {image['id'] for image in images}
            assert cell.score_threshold in {box['score'] for box in boxes} | {1.0}
            assert cell.scores['F1'] == pytest.approx(store.scores(cell).values['F1'].mean())
    pretraining = store.pretrainings()[0]
    assert len(pretraining.curve) == 3 and pretraining.curve[0]['loss'] > 0
    assert {cell.cost['pretraining_seconds'] for cell in cells if cell.method == 'mae'} == {pretraining.cost['seconds']}
    encoder = undisturbed / 'work' / 'pretrainings' / pretraining.pretraining / 'encoder.safetensors'
    assert str(undisturbed).encode() not in encoder.read_bytes()  # The same file, wherever it is computed.


def test_a_killed_fine_tuning_goes_on_and_ends_with_the_same_scores(undisturbed) -> None:
    only = ('--jobs', '2', '--no-estimate', '--only', 'task=caxf', 'method=scratch')
    places = ('--results', 'results_killed', '--work-dir', 'work_killed')
    name = next(
        cell.cell for cell in Store(undisturbed / 'results').cells() if cell.task + cell.method == 'caxfscratch'
    )
    train = undisturbed / 'work_killed' / 'cells' / name / 'train'
    process = benchmark('run', *COMMON, *places, *only, cwd=undisturbed)
    while not (train / 'last_checkpoint').is_file():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Store(undisturbed / 'results_killed').cells(None)
    finish(benchmark('run', *COMMON, *places, *only, cwd=undisturbed))
    assert 'continuing after epoch' in (train.parent / 'log.txt').read_text()
    one, other = (Store(undisturbed / folder) for folder in ('results', 'results_killed'))
    assert other.cells()[0].scores == one.cell(name).scores
    assert other.table_path(name).read_bytes() == one.table_path(name).read_bytes()


def test_a_pretraining_whose_record_was_lost_is_not_trained_again(undisturbed) -> None:
    only = ('--no-estimate', '--only', 'task=caxf', 'method=mae')
    finish(benchmark('run', *COMMON, '--results', 'results_lost', '--work-dir', 'work', *only, cwd=undisturbed))
    before, after = (Store(undisturbed / folder).pretrainings()[0] for folder in ('results', 'results_lost'))
    assert (after.pretraining, after.weights, after.curve) == (before.pretraining, before.weights, before.curve)


def test_the_page_shows_what_the_models_see_in_simulated_frames(undisturbed) -> None:
    places = ('--results', 'results', '--work-dir', 'work', '--output', 'pages')
    finish(benchmark('report', *COMMON[:-2], *places, '--pictures', cwd=undisturbed))
    listed = json.loads((undisturbed / 'pages' / 'pictures' / 'pictures.json').read_text())
    assert [item['task'] for item in listed] == ['caxf', 'stenosis']
    assert listed[0]['alt'].endswith('Columns: frame, truth, MAE, Brought, From scratch.')
    sheet = cv2.imread(str(undisturbed / 'pages' / 'pictures' / 'caxf.png'))
    width = sheet.shape[1] / 5
    columns = [sheet[:, round(i * width) : round((i + 1) * width)].astype(int) for i in range(5)]
    colors = [np.ptp(column, axis=2).max() for column in columns]  # Of grey pixels 0.
    assert colors[0] == 0 and min(colors[1:]) > 50
    assert (undisturbed / 'pages' / 'leaderboard.html').read_text().count('<img src="data:image/png;base64,') == 2


def test_a_submission_is_computed_again_and_a_changed_one_is_found(undisturbed) -> None:
    places = ('--results', 'results', '--work-dir', 'work')
    finish(benchmark('submit', 'own.zip', *COMMON[:-2], *places, cwd=undisturbed))
    checks = ('--data', 'data', '--entries', 'mine.yaml')
    assert '0 differences' in finish(benchmark('verify', 'own.zip', *checks, cwd=undisturbed))
    cell, other = [cell for cell in Store(undisturbed / 'results').cells() if cell.task == 'caxf'][:2]
    case = Store(undisturbed / 'results').scores(cell).cases[0]
    with zipfile.ZipFile(undisturbed / 'own.zip') as old, zipfile.ZipFile(undisturbed / 'forged.zip', 'w') as new:
        for name in old.namelist():
            content = old.read(name)
            if name == f'predictions/{cell.cell}/test/{case}.png':
                mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
                content = cv2.imencode('.png', 1 - mask)[1].tobytes()
            if name == f'results/{other.cell}.json':
                content = content.replace(b'"finished"', b'"Finished"', 1)
            new.writestr(name, content)
    process = benchmark('verify', 'forged.zip', *checks, cwd=undisturbed)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert f'{case}.png: it is not the file that was packed' in output and f'DSC of {case} is' in output
    assert f'results/{other.cell}.json: its checksum does not fit' in output
    assert 'width/thin/DSC is' in output


def test_a_changed_input_is_another_cell(place) -> None:
    entries = load_entries([place / 'mine.yaml'])
    settings = Settings(place / 'results', place / 'work', str(place / 'data'))

    def names(**changes: object) -> list[str]:
        protocol = replace(select(entries.protocol('tiny'), ['task=caxf', 'method=timm'], None, None), **changes)
        return [job.name for job in make_plan(entries, protocol, settings).cells]

    first = names()
    assert names() == first and len(first) == 1
    longer = entries.protocol('tiny').finetuning['options']
    assert names(finetuning={'options': {**longer, 'caxf': {'train_cfg.max_epochs': 4}}}) != first
    assert first[0] in names(seeds=(0, 1)) and len(set(names(seeds=(0, 1)))) == 2
    mask = next((place / 'data' / 'caxf' / 'masks').iterdir())
    content = mask.read_bytes()
    cv2.imwrite(str(mask), 1 - cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))
    assert names() != first
    mask.write_bytes(content)
    assert names() == first


def test_a_selection_of_tasks_changes_no_cell(place) -> None:
    entries = load_entries([place / 'mine.yaml'])
    other = replace(entries.task('caxf'), name='again', also_test=())
    tasks = {**entries.tasks, 'again': other, 'caxf': replace(entries.task('caxf'), also_test=('again', 'nowhere'))}
    tasks['nowhere'] = replace(other, name='nowhere', data='data/nowhere')
    study = replace(entries.protocol('tiny'), tasks=('caxf', 'again', 'nowhere'), methods=('scratch',))
    entries = replace(entries, tasks=tasks, protocols={'tiny': study})
    settings = Settings(place / 'results', place / 'work', str(place / 'data'))
    whole, part = (make_plan(entries, select(study, only, None, None), settings) for only in ([], ['task=caxf']))
    assert [cell.name for cell in part.cells] == [cell.name for cell in whole.cells if cell.inputs['task'] == 'caxf']
    assert [set(cell.also) for cell in part.cells] == [{'again'}]  # The data of the other are not here.
    assert (len(whole.problems), len(part.problems)) == (1, 0)


def test_the_weights_of_a_segmentor_are_an_input(place) -> None:
    entries = load_entries()
    protocol = replace(entries.protocol('smoke'), methods=('vasomim',), tasks=('caxf',))
    names = []
    for content, file in ((b'one', 'weights.pth'), (b'two', 'weights.pth'), (b'one', 'moved.pth')):
        (place / file).write_bytes(content)
        options = {'vasomim': {'model.segmentor.weights': str(place / file)}}
        study = replace(protocol, pretraining={'data': 'data/pretraining', 'options': options})
        (job,) = make_plan(entries, study, Settings(place / 'r', place / 'w', str(place / 'data'))).pretrainings
        names.append(job.name)
    assert names[0] != names[1] and names[0] == names[2]


def test_seeds_may_have_a_pretraining_each(place) -> None:
    entries = load_entries([place / 'mine.yaml'])
    settings = Settings(place / 'results', place / 'work', str(place / 'data'))
    once = select(entries.protocol('tiny'), ['task=caxf'], 2, None)
    each = replace(once, pretraining={**once.pretraining, 'per_seed': True})
    plans = [make_plan(entries, protocol, settings) for protocol in (once, each)]
    assert [len(plan.pretrainings) for plan in plans] == [1, 2]
    own = [{(cell.inputs['method'], cell.inputs['seed']): cell for cell in plan.cells} for plan in plans]
    differ = [place for place, cell in own[0].items() if own[1][place].name != cell.name]
    assert differ == [('mae', 1)]  # What was trained with seed 0 serves both studies.
    pretraining = plans[1].pretrainings[1]
    assert own[1]['mae', 1].encoder == pretraining.folder / 'encoder.safetensors'
    assert "'seed': 1" in pretraining.config and pretraining.command.endswith('method=mae seed=1')


def test_a_checkpoint_of_another_size_is_a_problem_of_the_plan(place) -> None:
    entries = load_entries([place / 'mine.yaml'])
    settings = Settings(place / 'results', place / 'work', str(place / 'data'))
    torch.save(timm_style({'embed_dims': 192, 'num_layers': 12, 'feedforward_channels': 768}, 64), place / 'tiny.pth')
    entries.methods['timm'] = replace(entries.method('timm'), checkpoint='tiny.pth')
    study = select(entries.protocol('tiny'), ['method=timm,scratch', 'task=caxf'], 1, None)
    plan = make_plan(entries, study, settings)
    assert [cell.inputs['method'] for cell in plan.cells] == ['scratch'] and len(plan.problems) == 1
    problem = str(plan.problems[0])
    assert "method 'timm'" in problem and 'belongs to another architecture' in problem
    assert 'finetune_options: {model.backbone.arch: tiny}' in problem
    right = replace(entries.method('timm'), finetune_options={'model.backbone.arch': 'tiny'})
    entries.methods['timm'] = right
    assert not make_plan(entries, study, settings).problems


def test_missing_data_are_a_problem_of_the_plan(place) -> None:
    process = benchmark('plan', *COMMON[:-1], 'nowhere', '--no-estimate', '--work-dir', 'work_plan', cwd=place)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1 and 'cannot run' in output and 'nowhere' in output
