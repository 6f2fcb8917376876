"""A submission made without training: prepared sets of a few pictures, predictions, records and their zip file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from vasomim.benchmark.results.records import (
    FINISHED,
    PRETRAINING,
    Cell,
    Pretraining,
    format_record,
    name_of,
    sha256,
    without_nan,
)
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.scoring.measures import BOXES, OPERATING_POINT, Outcome, choose_operating_point, score
from vasomim.benchmark.study.entries import Entries, Protocol
from vasomim.benchmark.study.jobs import Job
from vasomim.benchmark.study.loading import load_entries
from vasomim.benchmark.study.plan import Settings, make_plan
from vasomim.benchmark.submission.archive import MANIFEST, Archive
from vasomim.benchmark.submission.pack import pack
from vasomim.benchmark.submission.verify import Verification, verify
from vasomim.prepare.prepared import split_text

SIZE = 64
SPLITS = {'train': ('a', 'b'), 'val': ('c', 'd'), 'test': ('e', 'f', 'g')}
FILE_SHA256 = 'e' * 64
ENTRIES = {
    'tasks': [
        {
            'name': name,
            'title': name.capitalize(),
            'dataset': name,
            'task': 'segmentation',
            'config': 'vasomim::downstream/caxf/segmentation.py',
            'data': f'data/{name}',
            'metrics': ['DSC', 'HD95'],
            'subgroups': ['side', 'width'],
            'also_test': ['others'] if name == 'vessels' else [],
        }
        for name in ('vessels', 'others')
    ]
    + [
        {
            'name': 'lesions',
            'title': 'Lesions',
            'dataset': 'stenosis',
            'task': 'detection',
            'config': 'vasomim::downstream/stenosis/detection.py',
            'data': 'data/lesions',
            'metrics': ['mAP', 'F1'],
            'primary': 'mAP',
        }
    ],
    'protocols': [
        {
            'name': 'made',
            'title': 'Made up',
            'tasks': ['vessels', 'others', 'lesions'],
            'methods': ['mae', 'scratch'],
            'seeds': 1,
            'left_out': [{'task': ['others']}],
            'pretraining': {'data': 'data/frames'},
        }
    ],
}


@dataclass(frozen=True)
class Made:
    """A study whose cells are there: its folder, entries, protocol and submission."""

    folder: Path
    entries: Entries
    protocol: Protocol
    zip: Path

    def verify(self, path: Path, data: str | None = None) -> Verification:
        """Verify a file with the data at hand."""
        with Archive(path) as archive:
            return verify(archive, self.protocol, self.entries, data or str(self.folder / 'data'), 1e-6)


def prepare(root: Path, name: str, boxes: bool, rng: np.random.Generator) -> None:
    """Write a prepared set of seven pictures."""
    for part in ('images', 'masks', 'splits'):
        (root / part).mkdir(parents=True)
    for split, names in SPLITS.items():
        (root / 'splits' / f'{split}.txt').write_text(split_text(names))
        images, annotations = [], []
        for number, frame in enumerate(names, start=1):
            cv2.imwrite(str(root / 'images' / f'{frame}.png'), rng.integers(0, 255, (SIZE, SIZE), dtype=np.uint8))
            mask = np.zeros((SIZE, SIZE), np.uint8)
            left, top = (int(value) for value in rng.integers(4, 30, 2))
            mask[top : top + 6, left : left + 25] = 1
            cv2.imwrite(str(root / 'masks' / f'{frame}.png'), mask)
            images.append({'id': number, 'file_name': f'{frame}.png', 'width': SIZE, 'height': SIZE})
            box = [left, top, 25, 6]
            annotations.append(
                {'id': number, 'image_id': number, 'category_id': 1, 'bbox': box, 'area': 150, 'iscrowd': 0}
            )
        if boxes:
            categories = [{'id': 1, 'name': 'stenosis'}]
            content = {'images': images, 'annotations': annotations, 'categories': categories}
            (root / f'{split}.json').write_text(json.dumps(content))
    (root / 'sides.json').write_text(json.dumps({'e': 'left', 'f': 'right', 'g': 'left'}))
    counts = {split: {'frames': len(names)} for split, names in SPLITS.items()}
    description = {'name': name, 'classes': ['vessel'], 'counts': counts, 'masks': not boxes, 'boxes': boxes}
    (root / 'dataset.json').write_text(json.dumps(description))


def predict(job: Job) -> None:
    """Write predictions as a trained model of the job would."""
    assert job.task is not None and job.data is not None
    rng = np.random.default_rng(int(job.name[:8], 16))
    tests = {'test': job.data, **{f'also_{name}': Path(other['data']) for name, other in job.also.items()}}
    for test, data in tests.items():
        folder = job.folder / test / 'predictions'
        folder.mkdir(parents=True)
        if job.task.task == 'segmentation':
            for frame in SPLITS['test']:
                mask = np.roll(cv2.imread(str(data / 'masks' / f'{frame}.png'), 0), rng.integers(1, 4), axis=1)
                cv2.imwrite(str(folder / f'{frame}.png'), mask)
            continue
        (job.folder / 'validation' / 'predictions').mkdir(parents=True)
        (job.folder / 'validation' / 'predictions' / BOXES).write_text(json.dumps(boxes_near(data / 'val.json', rng)))
        (folder / BOXES).write_text(json.dumps(boxes_near(data / 'test.json', rng)))
        chosen = choose_operating_point(data, (job.folder / 'validation' / 'predictions' / BOXES).read_bytes())
        (folder / OPERATING_POINT).write_text(json.dumps(chosen) + '\n')


def boxes_near(truth: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Boxes of which one an image is about right, and one wrong."""
    found = []
    for box in json.loads(truth.read_text())['annotations']:
        left, top, width, height = box['bbox']
        for x, score_ in ((left + float(rng.uniform(0, 2)), float(rng.uniform(0.3, 0.9))), (0.0, 0.95)):
            found.append(
                {'image_id': box['image_id'], 'category_id': 1, 'bbox': [x, top, width, height], 'score': score_}
            )
    return found


def scored(job: Job, test: str, task: Any, data: Path) -> Outcome:
    """Score the predictions of a job."""
    return score(task, data, lambda name: (job.folder / test / 'predictions' / name).read_bytes())


def make(folder: Path) -> Made:
    """Make everything."""
    rng = np.random.default_rng(0)
    for name in ('vessels', 'others', 'lesions'):
        prepare(folder / 'data' / name, name, name == 'lesions', rng)
    (folder / 'data' / 'frames').mkdir()
    cv2.imwrite(str(folder / 'data' / 'frames' / '0.png'), rng.integers(0, 255, (SIZE, SIZE), dtype=np.uint8))
    (folder / 'entries.yaml').write_text(yaml.safe_dump(ENTRIES))
    entries = load_entries([folder / 'entries.yaml'])
    protocol = entries.protocol('made')
    plan = make_plan(entries, protocol, Settings(folder / 'results', folder / 'work', str(folder / 'data')))
    assert not plan.problems
    store = Store(folder / 'results')
    for job in plan.pretrainings:
        weights = {'file_sha256': FILE_SHA256}
        store.write_pretraining(Pretraining(job.name, job.inputs, FINISHED, weights=weights))
    for job in plan.cells:
        predict(job)
        assert job.task is not None and job.data is not None
        own = scored(job, 'test', job.task, job.data)
        also = {name: scored(job, f'also_{name}', it['task'], it['data']) for name, it in job.also.items()}
        cell = Cell(
            cell=job.name,
            inputs=job.inputs,
            status=FINISHED,
            scores=without_nan(own.scores),
            subgroups=without_nan(own.subgroups),
            cases=len(own.table.cases),
            also={
                name: {
                    'scores': without_nan(outcome.scores),
                    'cases': len(outcome.table.cases),
                    'data': job.also[name]['fingerprint'],
                }
                for name, outcome in also.items()
            },
            curve=[{'epoch': 1, 'loss': 0.5}],
            weights={'file_sha256': FILE_SHA256, 'share': 1.0} if job.inputs['method'] == 'mae' else None,
            score_threshold=own.score_threshold,
        )
        store.write_cell(cell, {'': own.table, **{name: outcome.table for name, outcome in also.items()}})
    store.write_study('made', {job.place: job.name for job in plan.cells})
    pack(folder / 'made.zip', folder / 'results', folder / 'work', protocol, entries)
    return Made(folder, entries, protocol, folder / 'made.zip')


class Forgery:
    """The members of a submission, to be changed by someone who keeps all hashes and checksums right.

    Args:
        path: The submission.
    """

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as file:
            self.members = {name: file.read(name) for name in file.namelist() if name != MANIFEST}
            self.manifest = json.loads(file.read(MANIFEST))

    def cell(self, task: str, method: str) -> str:
        """Name of a cell."""
        for name in self.manifest['cells']:
            inputs = json.loads(self.members[f'results/{name}.json'])['inputs']
            if (inputs['task'], inputs['method']) == (task, method):
                return str(name)
        raise LookupError(task, method)

    def edit(self, cell: str, change: Callable[[dict], Any]) -> str:
        """Change a record; another name, where its inputs change, goes through to all files. Returns the name."""
        record = json.loads(self.members.pop(f'results/{cell}.json'))
        del record['schema'], record['checksum']
        change(record)
        new = record['cell'] = name_of(record['inputs'])
        self.members[f'results/{new}.json'] = format_record(record).encode()
        if new != cell:
            self.members = {name.replace(cell, new): content for name, content in self.members.items()}
            self.manifest['cells'] = [new if name == cell else name for name in self.manifest['cells']]
        return new

    def edit_table(self, cell: str, change: Callable[[str], str], also: str = '') -> None:
        """Change a table, and its hash in the record."""
        name = f'results/{cell}.{also}.csv' if also else f'results/{cell}.csv'
        self.members[name] = change(self.members[name].decode()).encode()
        self.edit(cell, lambda record: record['tables'].update({also: sha256(self.members[name])}))

    def drop(self, cell: str) -> None:
        """Leave a cell out."""
        self.members = {name: content for name, content in self.members.items() if cell not in name}
        self.manifest['cells'].remove(cell)

    def edit_pretraining(self, change: Callable[[dict], Any]) -> dict:
        """Change the record of the pre-training; returns its inputs."""
        (old,) = self.manifest['pretrainings']
        record = json.loads(self.members.pop(f'results/{PRETRAINING}{old}.json'))
        del record['schema'], record['checksum']
        change(record)
        new = record['pretraining'] = name_of(record['inputs'])
        self.members[f'results/{PRETRAINING}{new}.json'] = format_record(record).encode()
        self.manifest['pretrainings'] = [new]
        inputs: dict = record['inputs']
        return inputs

    def save(self, path: Path, again: tuple[str, bytes] | None = None) -> Path:
        """Write it; ``again`` is a member that stands in it a second time."""
        self.manifest['files'] = {name: sha256(content) for name, content in self.members.items()}
        with zipfile.ZipFile(path, 'w') as file:
            for name, content in self.members.items():
                file.writestr(name, content)
            file.writestr(MANIFEST, json.dumps(self.manifest))
            if again is not None:
                file.writestr(*again)
        return path
