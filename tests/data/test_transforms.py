"""The paired transforms against torchvision's draws and Pillow's pixels."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch.nn.functional import interpolate
from torchvision.transforms import RandomResizedCrop

from vasomim.anatomy import extract_anatomy
from vasomim.data import LoadAnatomy, LoadAngiogram, PackAngiogram, PairedFlip, PairedResize, PairedResizedCrop
from vasomim.data.transforms import resize
from vasomim.errors import DatasetError


@pytest.fixture
def sample() -> dict:
    """A textured frame and a map of its bright half, both 200 x 260."""
    rng = np.random.default_rng(0)
    frame = np.clip(cv2.GaussianBlur(rng.normal(128, 200, (200, 260)), None, 1.5) - 0, 0, 255).astype(np.uint8)
    return {'img': frame, 'anatomy': (frame > 128).astype(np.uint8)}


@pytest.fixture
def ramp() -> dict:
    """A frame whose grey level is the column, and a map of the columns beyond 100."""
    columns = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    return {'img': columns, 'anatomy': (columns > 100).astype(np.uint8)}


@pytest.mark.parametrize(
    ('shape', 'scale', 'ratio'),
    [
        ((512, 512), (0.2, 1.0), (3 / 4, 4 / 3)),
        ((300, 700), (0.2, 1.0), (3 / 4, 4 / 3)),
        ((64, 900), (0.2, 1.0), (3 / 4, 4 / 3)),  # Hardly any try fits: mostly the central crop.
        ((900, 64), (0.5, 0.9), (3 / 4, 4 / 3)),
        ((96, 96), (0.05, 0.4), (0.5, 0.8)),
    ],
)
def test_crops_are_distributed_like_those_of_torchvision(shape, scale, ratio):
    np.random.seed(0)
    torch.manual_seed(0)
    crop = PairedResizedCrop(scale=scale, ratio=ratio)
    image = torch.empty(1, *shape)
    ours = np.array([crop.draw_crop(*shape) for _ in range(4000)])
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(4000)])
    for draws in (ours, theirs):
        top, left, height, width = draws.T
        assert np.all((top >= 0) & (left >= 0) & (top + height <= shape[0]) & (left + width <= shape[1]))
    for quantity in (
        lambda top, left, height, width: height * width,
        lambda top, left, height, width: width / height,
        lambda top, left, height, width: top,
        lambda top, left, height, width: left,
        lambda top, left, height, width: top + height,
    ):
        assert ks_2samp(quantity(*ours.T), quantity(*theirs.T)).pvalue > 1e-3


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (50, 1), (3, 400)])
def test_any_frame_has_a_crop(shape):
    np.random.seed(0)
    for _ in range(50):
        top, left, height, width = PairedResizedCrop().draw_crop(*shape)
        assert 1 <= height <= shape[0] - top
        assert 1 <= width <= shape[1] - left


@pytest.mark.parametrize('size', [224, (64, 96), 17])
def test_pixels_of_a_crop_are_those_of_pillow(sample, size):
    np.random.seed(3)
    crop = PairedResizedCrop(size=size)
    state = np.random.get_state()
    top, left, height, width = crop.draw_crop(*sample['img'].shape)
    np.random.set_state(state)
    found = crop(dict(sample))
    rows, columns = (size, size) if isinstance(size, int) else size
    box = (left, top, left + width, top + height)
    frame = Image.fromarray(sample['img']).crop(box).resize((columns, rows), Image.Resampling.BICUBIC)
    anatomy = Image.fromarray(sample['anatomy']).crop(box).resize((columns, rows), Image.Resampling.NEAREST)
    assert found['img'].dtype == found['anatomy'].dtype == np.uint8
    assert found['img_shape'] == (rows, columns)
    assert np.abs(found['img'].astype(int) - np.asarray(frame)).max() <= 2
    # Where the middle of a pixel falls on the edge of two, rounding decides.
    assert np.mean(found['anatomy'] != np.asarray(anatomy)) < 0.01


@pytest.mark.parametrize(
    ('shape', 'size'), [((300, 311), (224, 224)), ((7, 500), (17, 30)), ((1, 1), (5, 3)), ((90, 33), (90, 7))]
)
def test_resizing_in_quads_of_columns_gives_the_pixels_of_plain_resizing(shape, size):
    pixels = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
    plain = interpolate(torch.from_numpy(pixels)[None, None], size, mode='bicubic', antialias=True)[0, 0].numpy()
    found = resize(pixels, size, smooth=True)
    assert found.shape == size
    assert np.abs(found.astype(int) - plain).max() <= 1
    np.testing.assert_array_equal(
        resize(pixels[:, ::-1], size, smooth=True), resize(pixels[:, ::-1].copy(), size, True)
    )


@pytest.mark.parametrize(('pixels', 'wanted'), [(300, 224), (5, 11), (436, 153), (1, 4), (9, 3), (64, 32)])
def test_the_nearest_pixel_lies_under_the_middle(pixels, wanted):
    exact = [(Fraction(2 * place + 1, 2) * Fraction(pixels, wanted)).__floor__() for place in range(wanted)]
    row = np.arange(pixels).astype(np.uint16)[None]
    assert resize(row, (1, wanted), smooth=False)[0].tolist() == exact


def test_shrinking_does_not_alias():
    # Stripes of one pixel carry nothing at a third of the size; a kernel that does not widen draws other stripes.
    stripes = np.zeros((300, 300), np.uint8)
    stripes[:, ::2] = 200
    inner = PairedResize(100)({'img': stripes})['img'][5:-5, 5:-5]
    assert np.abs(inner.astype(int) - 100).max() <= 8
    assert np.abs(cv2.resize(stripes, (100, 100), interpolation=cv2.INTER_CUBIC).astype(int) - 100).max() > 50


def test_frame_and_anatomy_share_crop_and_flip(ramp):
    np.random.seed(1)
    crop, flip = PairedResizedCrop(size=128), PairedFlip(0.5)
    flipped = 0
    for _ in range(40):
        found = flip(crop(dict(ramp)))
        frame, anatomy = found['img'].astype(int), found['anatomy']
        flipped += frame[0, 0] > frame[0, -1]
        assert np.all(anatomy[frame > 104] == 1)
        assert np.all(anatomy[frame < 97] == 0)
    assert 8 <= flipped <= 32


@pytest.mark.parametrize(('prob', 'expected'), [(0.0, 0), (1.0, 200)])
def test_flip_never_and_always(ramp, prob, expected):
    flip = PairedFlip(prob)
    found = [flip(dict(ramp)) for _ in range(200)]
    assert sum(each['img'][0, 0] == 255 for each in found) == expected
    assert sum(each['anatomy'][0, 0] == 1 for each in found) == expected


def test_flip_keeps_to_its_probability(ramp):
    np.random.seed(0)
    flip = PairedFlip(0.3)
    share = np.mean([flip(dict(ramp))['img'][0, 0] == 255 for _ in range(4000)])
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def test_resize_takes_the_whole_frame(sample):
    found = PairedResize((50, 40))(dict(sample))
    expected = Image.fromarray(sample['img']).resize((40, 50), Image.Resampling.BICUBIC)
    assert np.abs(found['img'].astype(int) - np.asarray(expected)).max() <= 2
    assert found['anatomy'].shape == (50, 40)


def test_transforms_work_without_anatomy_and_leave_the_source_alone(sample):
    del sample['anatomy']
    before = sample['img'].copy()
    found = PackAngiogram()(PairedFlip(1.0)(PairedResizedCrop(size=32)(dict(sample))))
    assert 'anatomy' not in found['data_samples']
    np.testing.assert_array_equal(sample['img'], before)


def test_the_seed_decides(sample):
    def draw() -> np.ndarray:
        np.random.seed(11)
        return PairedFlip()(PairedResizedCrop(size=40)(dict(sample)))['img']

    np.testing.assert_array_equal(draw(), draw())


def test_packed_samples_hold_what_the_model_reads(sample):
    sample.update(img_path='a/1.png', sample_idx=7, skipped=['a/0.png'])
    packed = PackAngiogram()(PairedFlip(1.0)(dict(sample)))
    assert set(packed) == {'inputs', 'data_samples'}
    assert packed['inputs'].dtype == packed['data_samples'].anatomy.dtype == torch.uint8
    assert packed['inputs'].shape == packed['data_samples'].anatomy.shape == (1, 200, 260)
    np.testing.assert_array_equal(packed['inputs'][0].numpy(), sample['img'][:, ::-1])
    np.testing.assert_array_equal(packed['data_samples'].anatomy[0].numpy(), sample['anatomy'][:, ::-1])
    assert packed['data_samples'].metainfo == {'img_path': 'a/1.png', 'sample_idx': 7, 'skipped': ['a/0.png']}


@pytest.mark.parametrize('top', [1, 255])
def test_a_stored_map_is_read(tmp_path, write_frames, write_maps, top):
    write_frames(tmp_path, '1.png')
    write_maps(tmp_path, '1_map.png', top=top)
    paths = {'img_path': str(tmp_path / '1.png'), 'anatomy_path': str(tmp_path / '1_map.png')}
    found = LoadAnatomy()(LoadAngiogram()(paths))
    assert found['ori_shape'] == (48, 64)
    assert np.all(found['anatomy'][:, :32] == 1)
    assert np.all(found['anatomy'][:, 32:] == 0)


@pytest.mark.parametrize('name', ['sato', 'frangi'])
def test_a_map_is_extracted_while_loading(sample, name):
    found = LoadAnatomy()({**sample, 'anatomy_filter': name})
    np.testing.assert_array_equal(found['anatomy'], extract_anatomy(sample['img'], name))
    assert found['anatomy'].any()


def test_a_map_of_another_size_is_refused(tmp_path, write_frames, write_maps):
    write_frames(tmp_path, '1.png')
    write_maps(tmp_path, '1_map.png', shape=(64, 48))
    paths = {'img_path': str(tmp_path / '1.png'), 'anatomy_path': str(tmp_path / '1_map.png')}
    with pytest.raises(DatasetError, match=r'1_map\.png: a map of 48 x 64 pixels for a frame of 64 x 48'):
        LoadAnatomy()(LoadAngiogram()(paths))


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: PairedResizedCrop(scale=(0.5, 0.2)), 'scale'),
        (lambda: PairedResizedCrop(scale=(0.0, 1.0)), 'scale'),
        (lambda: PairedResizedCrop(ratio=(-1, 1)), 'ratio'),
        (lambda: PairedResizedCrop(size=0), 'size'),
        (lambda: PairedResize((10, -1)), 'size'),
        (lambda: PairedFlip(1.5), 'prob'),
    ],
)
def test_impossible_options_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
