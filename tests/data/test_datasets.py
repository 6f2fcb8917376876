"""Datasets on small folders: what they list, what they hand on, and what they refuse."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from vasomim.anatomy import extract_anatomy
from vasomim.apis.config_parts import use_data
from vasomim.apis.configs import load_config
from vasomim.data import XA170K, AngiogramFolder
from vasomim.errors import ConfigError, DatasetError
from vasomim.frames.images import read_grey

WHOLE = [{'type': 'LoadAngiogram'}, {'type': 'LoadAnatomy'}, {'type': 'PackAngiogram'}]
RANDOM = [
    {'type': 'LoadAngiogram'},
    {'type': 'LoadAnatomy'},
    {'type': 'PairedResizedCrop', 'size': 32},
    {'type': 'PairedFlip'},
    {'type': 'PackAngiogram'},
]


def names_of(dataset: XA170K | AngiogramFolder) -> list[str]:
    """Paths of the frames relative to the root."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [Path(info['img_path']).relative_to(dataset.data_root).as_posix() for info in infos]


@pytest.fixture
def merged(tmp_path, write_frames, write_maps) -> Path:
    """XA-170K with two of its sources: 20 frames in 4 series, and 10 in one."""
    cadica = [f'p{patient}_v1_{number:05}.png' for patient in (1, 2, 3, 4) for number in range(5)]
    syntax = [f'{number}.png' for number in range(10)]
    for source, names in (('cadica', cadica), ('syntax', syntax)):
        write_frames(tmp_path / source, *names)
        write_maps(tmp_path / f'{source}_frangi', *names)
    return tmp_path


class TestXA170K:
    def test_the_sources_that_are_there_are_read_with_their_maps(self, merged):
        dataset = DATASETS.build({'type': 'XA170K', 'data_root': str(merged), 'pipeline': WHOLE})
        assert len(dataset) == 30
        assert names_of(dataset)[:2] == ['cadica/p1_v1_00000.png', 'cadica/p1_v1_00001.png']
        assert names_of(dataset)[-1] == 'syntax/9.png'
        sample = dataset[21]['data_samples']
        assert sample.img_path == str(merged / 'syntax/1.png')
        assert (sample.sample_idx, sample.skipped, sample.ori_shape) == (21, [], (48, 64))
        assert torch.all(dataset[21]['inputs'] == 2)
        assert torch.all(sample.anatomy[..., :32] == 1) and torch.all(sample.anatomy[..., 32:] == 0)

    @pytest.mark.parametrize('sources', ['syntax', ['syntax']])
    def test_sources_can_be_chosen(self, merged, sources):
        assert names_of(XA170K(merged, sources=sources)) == [f'syntax/{number}.png' for number in range(10)]

    def test_a_source_of_ones_own_is_read(self, merged, write_frames):
        write_frames(merged, 'clinic/a.png')
        assert names_of(XA170K(merged, sources=['clinic'], anatomy='none')) == ['clinic/a.png']

    def test_sources_of_ones_own_beside_published_ones_are_read(self, merged, write_frames, write_maps):
        write_frames(merged, 'mine/a.png')
        with pytest.raises(DatasetError, match=r'mine_frangi: this folder of anatomy maps does not exist') as caught:
            XA170K(merged)
        assert f'vasomim extract {merged}/mine {merged}/mine_frangi' in caught.value.cure
        write_maps(merged, 'mine_frangi/a.png')
        assert names_of(XA170K(merged))[-1] == 'mine/a.png' and len(XA170K(merged)) == 31
        cfg = load_config('vasomim::pretrain/vasomim.py')
        use_data(cfg, str(merged))
        assert len(DATASETS.build({**cfg.train_dataloader.dataset, 'subset': 'all', 'pipeline': []})) == 31

    def test_a_misspelt_source_gets_a_suggestion(self, merged):
        with pytest.raises(DatasetError, match=r"no source 'cadika'\. Did you mean 'cadica'"):
            XA170K(merged, sources=['cadika'])

    def test_a_missing_source_is_no_empty_source(self, merged):
        with pytest.raises(DatasetError, match=r"no source 'xcad'[^\n]*\n  Here are: cadica, cadica_frangi"):
            XA170K(merged, sources=['syntax', 'xcad'])

    def test_a_root_without_sources_says_what_is_there(self, tmp_path, write_frames):
        write_frames(tmp_path, 'images/1.png')
        with pytest.raises(DatasetError, match=r'no source to read\.\n  Here are: images\.'):
            XA170K(tmp_path)

    def test_held_out_frames_are_the_last_series_of_each_source(self, merged):
        train = names_of(XA170K(merged, subset='train', held_out=0.2))
        held_out = names_of(XA170K(merged, subset='held_out', held_out=0.2))
        assert held_out == [
            *(f'cadica/p4_v1_{number:05}.png' for number in range(5)), 'syntax/8.png', 'syntax/9.png',
        ]  # fmt: skip
        assert sorted(train + held_out) == sorted(names_of(XA170K(merged)))

    def test_anatomy_on_the_fly_and_none(self, merged):
        frame = np.random.default_rng(0).integers(0, 256, (80, 90)).astype(np.uint8)
        cv2.imwrite(str(merged / 'syntax/0.png'), frame)
        for name in ('sato', 'frangi'):
            dataset = XA170K(merged, 'syntax', 'on_the_fly', filter=name, pipeline=WHOLE)
            np.testing.assert_array_equal(dataset[0]['data_samples'].anatomy[0], extract_anatomy(frame, name))
        assert 'anatomy' not in XA170K(merged, 'syntax', 'none', pipeline=WHOLE)[0]['data_samples']

    def test_missing_maps_are_counted_and_the_first_is_named(self, merged):
        (merged / 'cadica_frangi/p2_v1_00003.png').unlink()
        (merged / 'cadica_frangi/p4_v1_00000.png').unlink()
        with pytest.raises(DatasetError, match=r'2 of 20 frames have no anatomy map \(first: .*p2_v1_00003') as caught:
            XA170K(merged)
        assert f'vasomim extract {merged}/cadica {merged}/cadica_frangi' in caught.value.cure
        assert len(XA170K(merged, sources='syntax')) == 10

    def test_a_missing_folder_of_maps_is_named(self, merged):
        with pytest.raises(DatasetError, match=r'cadica_vessels: this folder of anatomy maps does not exist'):
            XA170K(merged, anatomy_suffix='_vessels')

    def test_maps_of_frames_in_other_formats_are_png(self, tmp_path, write_frames, write_maps):
        write_frames(tmp_path, 'xcad/a.jpg', 'xcad/b/c.bmp')
        write_maps(tmp_path, 'xcad_frangi/a.png', 'xcad_frangi/b/c.png')
        assert len(XA170K(tmp_path)) == 2

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            ({'anatomy': 'on_the_flyy'}, "Did you mean 'on_the_fly'"),
            ({'subset': 'heldout'}, "Did you mean 'held_out'"),
            ({'filter': 'satoo'}, "Did you mean 'sato'"),
            ({'held_out': 0.0}, 'is no share'),
            ({'held_out': 1.0}, 'is no share'),
        ],
    )
    def test_unknown_choices_get_a_suggestion(self, merged, options, message):
        with pytest.raises(ConfigError, match=message):
            XA170K(merged, **options)

    def test_a_split_may_list_frames_of_sources_that_are_not_used(self, merged):
        split = merged / 'split.txt'
        split.write_text('syntax/3.png\ncadica/p1_v1_00000.png\n\n# a comment\nsyntax/1.png\n')
        assert names_of(XA170K(merged, split=split)) == ['cadica/p1_v1_00000.png', 'syntax/1.png', 'syntax/3.png']
        assert names_of(XA170K(merged, sources='syntax', split=split)) == ['syntax/1.png', 'syntax/3.png']


def test_the_documented_options_use_the_lists_by_patient_whole(merged, project_root):
    lists = {'train': ['cadica/p1_v1_00000.png', 'cadica/p3_v1_00002.png'], 'held_out': ['cadica/p2_v1_00000.png']}
    lists['train'] += [f'syntax/{number}.png' for number in range(9)]
    lists['held_out'] += ['cadica/p4_v1_00001.png', 'syntax/9.png']
    (merged / 'splits').mkdir()
    for name, frames in lists.items():
        (merged / 'splits' / f'{name}.txt').write_text('\n'.join(frames) + '\n')
    page = (
        (project_root / 'docs' / 'pretraining_data.md')
        .read_text()
        .replace('\\\n', '')
        .replace('data/xa170k', str(merged))
    )
    command = next(line for line in page.splitlines() if 'dataset.split=' in line)
    cfg = load_config('vasomim::pretrain/vasomim.py', command.partition('--cfg-options')[2].split())
    use_data(cfg, str(merged))
    for loader, name in (('train_dataloader', 'train'), ('val_dataloader', 'held_out')):
        assert names_of(DATASETS.build({**cfg[loader].dataset, 'pipeline': []})) == lists[name]


class TestAngiogramFolder:
    def test_frames_of_all_formats_are_read_in_order(self, tmp_path, write_frames):
        names = ['a/2.png', 'a/10.jpg', 'b/1.bmp', 'c.tif', 'd.webp']
        write_frames(tmp_path, *names)
        dataset = AngiogramFolder(tmp_path, filter=None, pipeline=WHOLE)
        assert names_of(dataset) == names
        for level, packed in enumerate(dataset, start=1):
            assert abs(int(packed['inputs'].float().mean()) - level) <= 1
            assert 'anatomy' not in packed['data_samples']

    def test_maps_may_lie_inside_the_folder(self, tmp_path, write_frames, write_maps):
        write_frames(tmp_path, '1.png', 'a/2.jpg')
        write_maps(tmp_path / 'anatomy', '1.png', 'a/2.png')
        dataset = AngiogramFolder(tmp_path, tmp_path / 'anatomy', pipeline=WHOLE)
        assert names_of(dataset) == ['1.png', 'a/2.jpg']
        assert dataset[1]['data_samples'].anatomy.sum() == 48 * 32

    def test_maps_are_extracted_where_no_folder_is_named(self, tmp_path):
        frame = np.random.default_rng(0).integers(0, 256, (80, 90)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / '1.png'), frame)
        found = AngiogramFolder(tmp_path, pipeline=WHOLE)[0]['data_samples'].anatomy
        np.testing.assert_array_equal(found[0], extract_anatomy(frame))

    def test_subset_indices_and_split(self, tmp_path, write_frames):
        write_frames(tmp_path, *(f'{number}.png' for number in range(20)))
        folder = {'data_root': tmp_path, 'filter': None}
        assert names_of(AngiogramFolder(**folder, subset='held_out', held_out=0.1)) == ['18.png', '19.png']
        assert len(AngiogramFolder(**folder, subset='train', held_out=0.1)) == 18
        assert names_of(AngiogramFolder(**folder, indices=2)) == ['0.png', '1.png']
        split = tmp_path / 'train.txt'
        split.write_text('\ufeff7.png\n3.png\n11.png\n15.png\n', encoding='utf-8')  # As Windows tools write it.
        assert names_of(AngiogramFolder(**folder, split=split)) == ['3.png', '7.png', '11.png', '15.png']
        assert names_of(AngiogramFolder(**folder, split=split, subset='held_out', held_out=0.25)) == ['15.png']

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            ('1.png\n5.png\n6.png\n', r'2 of 3 frames are missing on disk \(first: 5\.png\)'),
            ('1.png\n2.png\n1.png\n', r'1 of 2 frames stand there more than once \(first: 1\.png\)'),
            ('# nothing\n', 'holds no frame'),
            (None, 'cannot be read: .*No such file'),
        ],
    )
    def test_a_wrong_split_names_itself_and_the_first_frame(self, tmp_path, write_frames, content, message):
        write_frames(tmp_path, '1.png', '2.png')
        split = tmp_path / 'split.txt'
        if content is not None:
            split.write_text(content)
        with pytest.raises(DatasetError, match=message) as caught:
            AngiogramFolder(tmp_path, filter=None, split=split)
        assert str(caught.value).startswith(str(split))

    def test_one_frame_cannot_be_shared_out(self, tmp_path, write_frames):
        write_frames(tmp_path, '1.png')
        with pytest.raises(DatasetError, match="no frame is left for subset 'train'"):
            AngiogramFolder(tmp_path, filter=None, subset='train')

    @pytest.mark.parametrize(
        ('prepare', 'message'),
        [
            (lambda root: None, 'this folder does not exist'),
            (lambda root: root.mkdir(), 'the folder is empty'),
            (lambda root: (root.mkdir(), (root / 'a.dcm').touch()), r'no image here, but 1 other files \(\.dcm: 1\)'),
        ],
    )
    def test_a_root_without_frames_says_why(self, tmp_path, prepare, message):
        prepare(tmp_path / 'frames')
        with pytest.raises(DatasetError, match=message):
            AngiogramFolder(tmp_path / 'frames')

    def test_a_missing_map_is_named(self, tmp_path, write_frames, write_maps):
        write_frames(tmp_path / 'frames', '1.png', '2.png')
        write_maps(tmp_path / 'maps', '1.png')
        with pytest.raises(DatasetError, match=r'1 of 2 frames have no anatomy map \(first: .*maps/2\.png\)'):
            AngiogramFolder(tmp_path / 'frames', tmp_path / 'maps')


class TestNames:
    COMPOSED, APART = 'm\u00fcller_1.png', 'mu\u0308ller_1.png'

    @pytest.mark.parametrize(('frame', 'anatomy'), [(COMPOSED, APART), (APART, COMPOSED)])
    def test_a_map_in_another_spelling_is_the_frames_map(self, tmp_path, write_frames, write_maps, frame, anatomy):
        write_frames(tmp_path / 'cadica', 'a.png', f'\u00e9/{frame}')
        write_maps(tmp_path / 'cadica_frangi', 'a.png', f'e\u0301/{anatomy}')
        for dataset in (XA170K(tmp_path), AngiogramFolder(tmp_path / 'cadica', tmp_path / 'cadica_frangi')):
            paths = [dataset.get_data_info(index)['anatomy_path'] for index in range(2)]
            assert sorted(Path(path).parts[-1] for path in paths) == ['a.png', anatomy]
            assert all(Path(path).is_file() for path in paths)

    def test_a_map_serves_no_second_frame(self, tmp_path, write_frames, write_maps):
        write_frames(tmp_path / 'frames', self.COMPOSED, self.APART)
        write_maps(tmp_path / 'maps', self.APART)
        with pytest.raises(DatasetError, match='1 of 2 frames have no anatomy map'):
            AngiogramFolder(tmp_path / 'frames', tmp_path / 'maps')

    def test_pictures_of_other_kinds_are_told_in_the_log(self, tmp_path, write_frames):
        write_frames(tmp_path, '1.png')
        (tmp_path / 'cine.gif').write_bytes(b'GIF89a')
        assert 'cine.gif' in repr(AngiogramFolder(tmp_path))
        (tmp_path / 'cine.gif').unlink()
        assert 'left out' not in repr(AngiogramFolder(tmp_path))


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path, write_frames, write_maps, damage: Callable[[Path], None]) -> dict:
        """Six frames of which the third, the fourth and the last are damaged."""
        names = [f'{number}.{ending}' for number, ending in enumerate(['png', 'jpg', 'png', 'jpg', 'png', 'bmp'])]
        write_frames(tmp_path / 'frames', *names)
        write_maps(tmp_path / 'maps', *(f'{number}.png' for number in range(6)))
        for name in ('2.png', '3.jpg', '5.bmp'):
            damage(tmp_path / 'frames' / name)
        return {'data_root': tmp_path / 'frames', 'anatomy_root': tmp_path / 'maps', 'pipeline': WHOLE}

    @pytest.mark.parametrize(('index', 'name'), [(2, '2.png'), (3, '3.jpg'), (5, '5.bmp')])
    def test_a_damaged_frame_is_an_error_that_names_file_and_option(self, folder, index, name):
        with pytest.raises(DatasetError, match='skip_corrupt=True') as caught:
            AngiogramFolder(**folder)[index]
        assert str(caught.value).startswith(str(folder['data_root'] / name))

    def test_skipped_frames_are_replaced_by_the_next_and_reported(self, folder):
        dataset = AngiogramFolder(**folder, skip_corrupt=True)
        root = folder['data_root']
        for index, used, skipped in [(1, 1, []), (2, 4, ['2.png', '3.jpg']), (3, 4, ['3.jpg']), (5, 0, ['5.bmp'])]:
            packed = dataset[index]
            assert abs(int(packed['inputs'].max()) - (used + 1)) <= 1
            assert packed['data_samples'].sample_idx == used
            assert packed['data_samples'].skipped == [str(root / name) for name in skipped]

    def test_a_frame_that_vanished_is_skipped_too(self, folder):
        dataset = AngiogramFolder(**folder, skip_corrupt=True)
        (folder['data_root'] / '0.png').unlink()
        assert dataset[0]['data_samples'].skipped == [str(folder['data_root'] / '0.png')]

    def test_a_folder_that_is_gone_is_no_corrupt_frame(self, folder, tmp_path):
        dataset = AngiogramFolder(**folder, skip_corrupt=True)
        Path(folder['data_root']).rename(tmp_path / 'unmounted')
        with pytest.raises(DatasetError, match='this folder is gone') as caught:
            dataset[0]
        assert '--resume' in caught.value.cure

    def test_a_damaged_frame_needs_no_map(self, folder):
        """`vasomim extract` makes none of it."""
        for name in ('2.png', '3.png', '5.png'):
            (folder['anatomy_root'] / name).unlink()
        assert AngiogramFolder(**folder, skip_corrupt=True)[2]['data_samples'].sample_idx == 4
        with pytest.raises(DatasetError, match=r'frames/2\.png: damaged(.|\n)*skip_corrupt=True'):
            AngiogramFolder(**folder)[2]
        (folder['anatomy_root'] / '4.png').unlink()
        with pytest.raises(DatasetError, match=r'4 of 6 frames have no anatomy map \(first: .*maps/4\.png\)'):
            AngiogramFolder(**folder, skip_corrupt=True)

    @pytest.mark.parametrize('skip_corrupt', [False, True])
    def test_a_damaged_map_is_never_skipped(self, folder, damage, skip_corrupt):
        damage(folder['anatomy_root'] / '0.png')
        with pytest.raises(DatasetError, match=r'maps/0\.png: damaged'):
            AngiogramFolder(**folder, skip_corrupt=skip_corrupt)[0]

    def test_nothing_but_damage_ends(self, folder, damage):
        for path in folder['data_root'].iterdir():
            damage(path)
        with pytest.raises(DatasetError, match='none of the 6 frames can be read'):
            AngiogramFolder(**folder, skip_corrupt=True)[0]


class TestLoader:
    @staticmethod
    def batches(root: Path, workers: int, seed: int = 5, epochs: int = 2) -> list[torch.Tensor]:
        """Load a folder through mmengine, as a training does."""
        np.random.seed(seed)
        loader = Runner.build_dataloader(
            {
                'batch_size': 4,
                'num_workers': workers,
                'persistent_workers': workers > 0,
                'sampler': {'type': 'DefaultSampler', 'shuffle': True},
                'dataset': {'type': 'mmpretrain.AngiogramFolder', 'data_root': str(root), 'pipeline': RANDOM},
            },
            seed=seed,
        )
        found = []
        for epoch in range(epochs):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                anatomy = [sample.anatomy for sample in batch['data_samples']]
                found.append(torch.stack([*batch['inputs'], *anatomy]))
        return found

    @pytest.fixture
    def textured(self, tmp_path) -> Path:
        rng = np.random.default_rng(0)
        for number in range(12):
            frame = cv2.GaussianBlur(rng.integers(0, 256, (60, 70)).astype(np.uint8), None, 1)
            cv2.imwrite(str(tmp_path / f'{number}.png'), frame)
        return tmp_path

    @pytest.mark.parametrize('workers', [0, 2])
    def test_the_seed_decides_what_is_loaded(self, textured, workers):
        first, second = self.batches(textured, workers), self.batches(textured, workers)
        assert len(first) == 6
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
        other = self.batches(textured, workers, seed=6)
        assert not any(torch.equal(one, another) for one, another in zip(first, other, strict=True))

    def test_workers_do_not_draw_the_same_crops(self, tmp_path):
        frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (60, 70)).astype(np.uint8), None, 1)
        for number in range(12):
            cv2.imwrite(str(tmp_path / f'{number}.png'), frame)
        crops = torch.cat([batch[:4] for batch in self.batches(tmp_path, workers=2)])
        assert len(torch.unique(crops, dim=0)) == 24

    def test_an_error_in_a_worker_names_file_and_cure(self, textured, damage):
        damage(textured / '7.png')
        with pytest.raises((DatasetError, RuntimeError), match=r'7\.png: damaged[^\n]*\n  Copy or download'):
            self.batches(textured, workers=2)


def test_real_frames_are_read(data_root):
    dataset = AngiogramFolder(data_root / 'arcade/frames', pipeline=RANDOM, indices=4)
    for packed in dataset:
        assert packed['inputs'].shape == (1, 32, 32)
        assert packed['data_samples'].ori_shape == read_grey(packed['data_samples'].img_path).shape


def test_a_prepared_set_of_another_source_is_read_with_its_maps(tmp_path):
    for name in ('mine/1.png', 'mine/2.png', 'mine_frangi/1.png', 'mine_frangi/2.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    cfg = load_config('vasomim::pretrain/vasomim.py')
    use_data(cfg, str(tmp_path))
    found = DATASETS.build({**cfg.train_dataloader.dataset, 'subset': 'all', 'pipeline': []})
    assert [info['anatomy_path'] for info in found.load_data_list()] == [
        str(tmp_path / 'mine_frangi/1.png'),
        str(tmp_path / 'mine_frangi/2.png'),
    ]


@pytest.mark.parametrize(('place', 'named'), [('frames', '.'), ('frames/p1', '..')])
def test_a_folder_named_by_dots_is_read_with_its_maps(place, named, tmp_path, monkeypatch):
    for name in ('frames/p1/1.png', 'frames/p1/2.png', 'frames_frangi/p1/1.png', 'frames_frangi/p1/2.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / place)
    cfg = load_config('vasomim::pretrain/vasomim.py')
    use_data(cfg, named)
    found = DATASETS.build({**cfg.train_dataloader.dataset, 'subset': 'all', 'pipeline': []})
    assert [info['anatomy_path'] for info in found.load_data_list()] == [
        str(tmp_path / 'frames_frangi/p1/1.png'),
        str(tmp_path / 'frames_frangi/p1/2.png'),
    ]
