"""The packed cache against the folders that were packed: the same names, subsets and pixels, and no memory kept."""

import json
import multiprocessing
import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from vasomim.apis.config_parts import use_data
from vasomim.apis.configs import load_config
from vasomim.cli import main
from vasomim.data import XA170K, AngiogramFolder, PackedAngiograms, pack_format
from vasomim.data.pack_format import PackedFrames, PackedMask, damages, read_index
from vasomim.errors import ConfigError, DatasetError

START = [{'type': 'LoadAngiogram'}, {'type': 'LoadAnatomy'}]
RANDOM = [*START, {'type': 'PairedResizedCrop', 'size': 40}, {'type': 'PairedFlip'}, {'type': 'PackAngiogram'}]
RESIZED = [*START, {'type': 'PairedResize', 'size': (24, 32)}, {'type': 'PackAngiogram'}]
MIRRORED = [*START, {'type': 'PairedFlip', 'prob': 1.0}, {'type': 'PackAngiogram'}]
WHOLE = [*START, {'type': 'PackAngiogram'}]


def write_source(root: Path, names: list[str], seed: int = 0) -> None:
    """Write noise of many sizes and maps of noise."""
    rng = np.random.default_rng(seed)
    for name in names:
        height, width = rng.integers(30, 90, 2)
        for folder, top in ((root, 256), (root.with_name(f'{root.name}_frangi'), 2)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, top, (height, width), dtype=np.uint8)
            cv2.imwrite(str(folder / name), pixels if top == 256 else 255 * pixels)


@pytest.fixture
def merged(tmp_path) -> Path:
    """XA-170K of two sources and the same, packed into some shards."""
    root = tmp_path / 'xa'
    write_source(root / 'cadica', [f'p{series}_v1_{number:05}.png' for series in (1, 2, 10) for number in range(8)], 1)
    write_source(root / 'xcad', [f'{number}.png' for number in range(12)], 2)
    assert main('pack', [str(root), '--shard-size', '1', '--jobs', '2']) == 0
    return root


def packed(root: Path) -> Path:
    return root.with_name(f'{root.name}.packed')


def relative(dataset: XA170K) -> list[str]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [Path(info['img_path']).relative_to(dataset.data_root).as_posix() for info in infos]


def assert_same_items(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for index in range(len(ours)):
        items = []
        for dataset in (ours, theirs):
            np.random.seed(index)
            items.append(dataset[index])
        torch.testing.assert_close(items[0]['inputs'], items[1]['inputs'], rtol=0, atol=0)
        samples = [item['data_samples'] for item in items]
        assert ('anatomy' in samples[0]) == ('anatomy' in samples[1])
        if 'anatomy' in samples[0]:
            torch.testing.assert_close(samples[0].anatomy, samples[1].anatomy, rtol=0, atol=0)
        for key in ('sample_idx', 'skipped', 'ori_shape', 'img_shape'):
            assert samples[0].get(key) == samples[1].get(key)


@pytest.mark.parametrize('pipeline', [RANDOM, RESIZED, MIRRORED, WHOLE], ids=['random', 'resized', 'mirrored', 'whole'])
def test_items_are_those_of_the_folder_bit_for_bit(merged, pipeline):
    config = {'type': 'PackedAngiograms', 'data_root': str(packed(merged)), 'pipeline': pipeline}
    assert_same_items(DATASETS.build(config), XA170K(merged, pipeline=pipeline))


@pytest.mark.parametrize('options', [{'subset': 'train'}, {'subset': 'held_out', 'held_out': 0.2}, {'sources': 'xcad'}])
def test_names_and_subsets_are_those_of_the_folder(merged, options):
    ours, theirs = PackedAngiograms(packed(merged), **options), XA170K(merged, **options)
    assert relative(ours) == relative(theirs)
    assert 0 < len(ours) < 36


def test_a_split_lists_frames_by_the_same_names(merged, tmp_path):
    (tmp_path / 'split.txt').write_text('xcad/3.png\ncadica/p2_v1_00001.png\n')
    dataset = PackedAngiograms(packed(merged), split=tmp_path / 'split.txt')
    assert relative(dataset) == ['cadica/p2_v1_00001.png', 'xcad/3.png']
    assert relative(PackedAngiograms(packed(merged), split=tmp_path / 'split.txt', sources=['xcad'])) == ['xcad/3.png']


def test_methods_without_anatomy_read_the_same_set(merged):
    ours = PackedAngiograms(packed(merged), anatomy='none', pipeline=RANDOM)
    assert_same_items(ours, XA170K(merged, anatomy='none', pipeline=RANDOM))


def test_a_folder_with_sub_folders_is_packed_as_well(tmp_path):
    write_source(tmp_path / 'frames', ['b/2.png', 'b/10.png', 'a.png', 'c/d/1.png'])
    assert main('pack', [str(tmp_path / 'frames'), str(tmp_path / 'out')]) == 0
    plain = AngiogramFolder(tmp_path / 'frames', tmp_path / 'frames_frangi', pipeline=RANDOM)
    assert_same_items(PackedAngiograms(tmp_path / 'out', pipeline=RANDOM), plain)
    assert relative(PackedAngiograms(tmp_path / 'out')) == relative(plain)
    with pytest.raises(ConfigError, match='a folder was packed'):
        PackedAngiograms(tmp_path / 'out', sources=['b'])


@pytest.mark.parametrize(
    ('workers', 'start'), [(2, 'fork'), (4, 'fork'), pytest.param(2, 'spawn', marks=pytest.mark.slow)]
)
def test_worker_processes_read_the_same(merged, workers, start):
    dataset = PackedAngiograms(packed(merged), pipeline=RESIZED)
    expected = [dataset[index] for index in range(len(dataset))]  # The shards are open here before the workers start.
    context = multiprocessing.get_context(start)
    loader = DataLoader(
        dataset, batch_size=5, num_workers=workers, collate_fn=pseudo_collate, multiprocessing_context=context
    )
    batches = list(loader)
    found = [frame for batch in batches for frame in batch['inputs']]
    samples = [sample for batch in batches for sample in batch['data_samples']]
    assert len(found) == len(expected)
    for frame, sample, item in zip(found, samples, expected, strict=True):
        assert torch.equal(frame, item['inputs'])
        assert torch.equal(sample.anatomy, item['data_samples'].anatomy)


def test_items_can_be_written_to_and_leave_the_cache_alone(merged):
    dataset = PackedAngiograms(packed(merged), pipeline=WHOLE)
    before = dataset[0]['inputs'].clone()
    dataset[0]['inputs'].zero_()
    assert torch.equal(dataset[0]['inputs'], before)
    assert damages(packed(merged), read_index(packed(merged))) == []


def test_pickles_hold_no_pixels(merged):
    dataset = PackedAngiograms(packed(merged), pipeline=WHOLE)
    before = dataset[3]['inputs']
    copied = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 20_000
    assert torch.equal(copied[3]['inputs'], before)


def resident(path: Path) -> int:
    """Bytes of a mapped file that count as this process's memory."""
    text = Path('/proc/self/smaps').read_text()
    blocks = re.findall(rf'{re.escape(str(path))}\n.*?\nRss: +(\d+) kB', text, re.DOTALL)
    return 1024 * sum(map(int, blocks))


@pytest.mark.skipif(not Path('/proc/self/smaps').exists(), reason='Only Linux says what a process keeps of a file.')
def test_memory_does_not_grow_with_what_was_read(tmp_path, monkeypatch):
    side, number = 512, 160
    block = side * side * 9 // 8
    (tmp_path / 'shard_00000.bin').write_bytes(bytes(range(256)) * (number * block // 256))
    monkeypatch.setattr(pack_format, 'RESIDENT', 10 * block)
    frames, kept = PackedFrames(tmp_path, anatomy=True), []
    for index in range(number):
        frame, mask = frames.read(side, side, 0, index * block)
        assert frame.sum() > 0
        assert mask[:, :].any()
        if index % 8 == 7:
            kept.append(resident(tmp_path / 'shard_00000.bin'))
    assert kept[0] > 4 * block
    assert max(kept) < 40 * block  # The system maps up to some megabytes around what is asked for.
    assert np.array_equal(frame[0, :256], np.arange(256))  # A view outlasts the pages behind it.


@pytest.mark.parametrize('width', [1, 7, 8, 9, 64, 77])
def test_a_mask_of_bits_is_cut_like_an_array(width):
    rng = np.random.default_rng(width)
    plain = rng.integers(0, 2, (20, width), dtype=np.uint8)
    mask = PackedMask(np.packbits(plain, axis=1), width)
    assert mask.shape == plain.shape
    np.testing.assert_array_equal(np.asarray(mask), plain)
    np.testing.assert_array_equal(mask[:, ::-1], plain[:, ::-1])
    for _ in range(20):
        rows, columns = (slice(*sorted(rng.choice(side + 1, 2, replace=False))) for side in plain.shape)
        np.testing.assert_array_equal(mask[rows, columns], plain[rows, columns])


class TestDamage:
    def test_a_shard_cut_short_is_seen_on_opening(self, merged):
        shard = packed(merged) / 'shard_00000.bin'
        shard.write_bytes(shard.read_bytes()[:-1])
        with pytest.raises(DatasetError, match=r'shard_00000\.bin: this shard has \d+ bytes instead of \d+'):
            PackedAngiograms(packed(merged))

    def test_a_missing_shard_is_seen_on_opening(self, merged):
        (packed(merged) / 'shard_00000.bin').unlink()
        with pytest.raises(DatasetError, match=r'shard_00000\.bin: this shard is missing'):
            PackedAngiograms(packed(merged))

    def test_a_shard_lost_later_is_an_error_with_its_name(self, merged):
        dataset = PackedAngiograms(packed(merged), pipeline=RANDOM)
        (packed(merged) / 'shard_00000.bin').unlink()
        with pytest.raises(DatasetError, match=r'shard_00000\.bin: this shard of packed frames cannot be opened'):
            dataset[0]

    def test_a_changed_byte_is_traced_to_its_frame(self, merged):
        root, index = packed(merged), read_index(packed(merged))
        frame = index.frames[20]
        shard = root / pack_format.shard_name(frame.shard)
        content = bytearray(shard.read_bytes())
        content[frame.offset + 5] ^= 1
        shard.write_bytes(content)
        (line,) = damages(root, index, jobs=2)
        assert re.search(rf'{shard.name}: changed .* in 1 frames \(first: {re.escape(frame.name)}\)', line)

    @pytest.mark.parametrize(
        'content',
        [
            *('', 'null', '[]', '7', '{"format": NaN}', '{"format": 1e999}', '[' * 100_000, '{"format": "\\ud800"}'),
            *('{"format": "other"}', '{"format": "vasomim-packed", "version": 1}'),
        ],
        ids=lambda content: content[:20],
    )
    def test_a_damaged_index_is_refused(self, merged, content):
        (packed(merged) / 'packed.json').write_text(content)
        with pytest.raises(DatasetError, match=r'packed\.json: '):
            PackedAngiograms(packed(merged))
        (packed(merged) / 'packed.json').write_bytes(b'\xff\xfe' + content.encode('utf-16-le', 'surrogatepass'))
        with pytest.raises(DatasetError, match=r'packed\.json: '):
            read_index(packed(merged))

    @pytest.mark.parametrize(
        ('key', 'values'),
        [
            ('layout', [None, True, 7, 'other', ['folder']]),
            ('anatomy', [None, 1, 'yes', []]),
            ('size', [0, -1, 1.5, '512', [7]]),
            ('complete', [None, 1, 'yes', []]),
            ('failed', [None, [], 'x', {'a.png': 7}]),
            ('shards', [None, [], {}, {'shard_00000.bin': 7}]),
            ('frames', [None, {}, 7, [7], [None]]),
            ('version', [None, True, '2', 3, []]),
        ],
    )
    def test_an_index_with_a_wrong_value_is_refused(self, merged, key, values):
        path = packed(merged) / 'packed.json'
        content = json.loads(path.read_text())
        for value in values:
            path.write_text(json.dumps({**content, key: value}))
            with pytest.raises(DatasetError, match=r'packed\.json: '):
                read_index(packed(merged))
        del content[key]
        path.write_text(json.dumps(content))
        with pytest.raises(DatasetError, match=r'packed\.json: '):
            read_index(packed(merged))

    @pytest.mark.parametrize(
        ('place', 'value'),
        [
            *((1, 10**6), (2, 10**6), (1, 0), (2, -5), (1, 2.5), (2, None)),  # Height, width: 10^12 pixels.
            *((3, 99), (3, -1), (4, -1), (4, 10**9), (4, 10**30), (5, 'x'), (0, 7), (6, 7)),
        ],
    )
    def test_an_entry_that_points_elsewhere_is_refused(self, merged, place, value):
        path = packed(merged) / 'packed.json'
        content = json.loads(path.read_text())
        content['frames'][3][place] = value
        path.write_text(json.dumps(content))
        with pytest.raises(DatasetError, match=r'packed\.json: this index of a packed set is damaged'):
            PackedAngiograms(packed(merged))

    @pytest.mark.parametrize(
        'change',
        [
            lambda content: content['frames'].append(content['frames'][0]),
            lambda content: content['frames'].append([]),
            lambda content: content['frames'].append({'name': 'x'}),
            lambda content: content['shards'].update({'../../etc/passwd': content['shards']['shard_00000.bin']}),
            lambda content: content['shards'].update({'shard_0.bin': content['shards']['shard_00000.bin']}),
            lambda content: content['shards'].update({'shard_00001.bin': {'bytes': -1, 'sha256': ''}}),
            lambda content: content['shards'].update({'shard_00001.bin': [1, 2]}),
            lambda content: content['failed'].update({'x.png': 7}),
        ],
    )
    def test_other_crafted_entries_are_refused(self, merged, change):
        path = packed(merged) / 'packed.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(DatasetError, match=r'packed\.json: this index of a packed set is damaged'):
            read_index(packed(merged))

    def test_an_index_of_the_first_version_is_read(self, merged):
        path = packed(merged) / 'packed.json'
        content = json.loads(path.read_text())
        content |= {'version': 1, 'frames': [frame[:6] for frame in content['frames']]}
        path.write_text(json.dumps(content))
        assert_same_items(PackedAngiograms(packed(merged), pipeline=WHOLE), XA170K(merged, pipeline=WHOLE))
        before = {shard.name: shard.stat().st_mtime_ns for shard in packed(merged).glob('*.bin')}
        assert main('pack', [str(merged)]) == 0  # Reads all frames again, and keeps the shards.
        assert {shard.name: shard.stat().st_mtime_ns for shard in packed(merged).glob('*.bin')} == before
        assert json.loads(path.read_text())['version'] == 2
        assert all(frame.origin for frame in read_index(path.parent).frames)

    def test_a_folder_that_was_never_packed_is_refused(self, merged):
        with pytest.raises(DatasetError, match='Name a folder that `vasomim pack` wrote'):
            PackedAngiograms(merged)

    def test_an_incomplete_set_is_refused(self, merged):
        path = packed(merged) / 'packed.json'
        path.write_text(path.read_text().replace('"complete": true', '"complete": false'))
        with pytest.raises(DatasetError, match='not complete: the packing was stopped'):
            PackedAngiograms(packed(merged))


def test_sources_of_other_names_are_packed_on_demand(merged):
    write_source(merged / 'clinic', ['3.png', '20.png'], 5)
    assert main('pack', [str(merged), f'{merged}.own', '--sources', 'clinic', 'xcad']) == 0
    ours, theirs = (
        PackedAngiograms(f'{merged}.own', pipeline=RANDOM),
        XA170K(merged, ['clinic', 'xcad'], pipeline=RANDOM),
    )
    assert relative(ours) == relative(theirs)
    assert_same_items(ours, theirs)


def test_a_misspelt_source_gets_a_suggestion(merged):
    with pytest.raises(DatasetError, match=r"no source 'xcat'\. Did you mean 'xcad'\?\n  Packed are: cadica, xcad"):
        PackedAngiograms(packed(merged), sources=['xcat'])


def test_training_takes_a_packed_set_for_its_data(merged):
    config = load_config('vasomim::pretrain/vasomim.py')
    use_data(config, str(packed(merged)))
    parts = [DATASETS.build(config[f'{part}_dataloader'].dataset) for part in ('train', 'val')]
    assert all(isinstance(part, PackedAngiograms) for part in parts)
    assert len(parts[0]) + len(parts[1]) == 36
    assert parts[0][0]['inputs'].shape == parts[1][0]['inputs'].shape == (1, 224, 224)
