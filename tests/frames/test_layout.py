"""Listing frames, telling series apart and cutting off held-out frames, on trees made by hand."""

from pathlib import Path

import numpy as np
import pytest

from tests.dicoms import write_dicom
from vasomim.cli import main
from vasomim.errors import DatasetError
from vasomim.frames.layout import (
    held_out_start,
    list_folder,
    list_images,
    map_names,
    maps_beside,
    merged_sources,
    series_key,
    unread_line,
)
from vasomim.frames.names import is_listable, on_disk, other_spellings


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_of_all_formats_are_found_in_reading_order(tmp_path):
    touch(tmp_path, 'b/f_10.png', 'b/f_9.PNG', 'a/2.jpeg', 'a/10.tif', 'c.webp', 'd.bmp', 'e.jpg', 'f.tiff', 'note.txt')
    assert list_images(tmp_path) == [
        'a/2.jpeg', 'a/10.tif', 'b/f_9.PNG', 'b/f_10.png', 'c.webp', 'd.bmp', 'e.jpg', 'f.tiff',
    ]  # fmt: skip


def test_hidden_files_and_anatomy_beside_its_frames_are_left_out(tmp_path):
    touch(tmp_path, 'syntax/1.png', 'syntax_frangi/1.png', 'other_frangi/1.png', '.cache/1.png', 'syntax/._1.png')
    assert list_images(tmp_path) == ['other_frangi/1.png', 'syntax/1.png']
    assert 'syntax_frangi/1.png' in list_images(tmp_path, anatomy_suffix='_vessels')


def test_a_folder_can_be_left_out(tmp_path):
    touch(tmp_path, '1.png', 'maps/1.png', 'maps/a/2.png', 'maps2/1.png')
    assert list_images(tmp_path, without=tmp_path / 'maps') == ['1.png', 'maps2/1.png']


@pytest.mark.parametrize('named', ['{root}/frames', '.', '../frames', '{root}/frames/p1/..', '{root}/link'])
def test_maps_lie_beside_the_folder_that_is_meant(named, tmp_path, monkeypatch):
    touch(tmp_path, 'frames/p1/1.png')
    (tmp_path / 'link').symlink_to(tmp_path / 'frames')
    monkeypatch.chdir(tmp_path / 'frames')
    assert maps_beside(named.format(root=tmp_path)).resolve() == tmp_path / 'frames_frangi'
    assert maps_beside('data/frames') == Path('data/frames_frangi')


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path / 'elsewhere', 'x_1.png')
    root = tmp_path / 'root'
    touch(root, 'a/1.png')
    (root / 'link').symlink_to(tmp_path / 'elsewhere')
    (root / 'a' / 'up').symlink_to(root)
    assert list_images(root) == ['a/1.png', 'link/x_1.png']


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(DatasetError, match='the folder is empty'):
        list_images(tmp_path)


def test_a_folder_of_other_files_says_what_is_there(tmp_path):
    touch(tmp_path, 'a.npz', 'b/c.npz', 'd.txt', 'README')
    with pytest.raises(DatasetError, match=r'no image here, but 4 other files \(\.npz: 2'):
        list_images(tmp_path)


def test_a_folder_of_dicom_files_is_sent_to_what_reads_them(tmp_path, capsys):
    write_dicom(tmp_path / 'dcm/IM0001', np.zeros((2, 16, 16), np.uint8))
    touch(tmp_path, 'dcm/a.txt')
    for verb in ('extract', 'pack'):
        assert main(verb, [str(tmp_path / 'dcm')]) == 2
        error = capsys.readouterr().err
        assert 'no image here, but 2 other files' in error
        command = error.partition('`vasomim prepare ')[2].partition('`')[0].split()
    assert main('prepare', [word.replace('data/', f'{tmp_path}/') for word in command]) == 0
    assert len(list((tmp_path / 'mine/mine').glob('*.png'))) == 2


def test_a_misspelt_folder_gets_a_suggestion(tmp_path):
    (tmp_path / 'angiograms').mkdir()
    with pytest.raises(DatasetError, match=r"does not exist\. Did you mean 'angiograms'"):
        list_images(tmp_path / 'angiogram')


def test_a_file_is_no_folder(tmp_path):
    touch(tmp_path, 'a.png')
    with pytest.raises(DatasetError, match='a file, not a folder'):
        list_images(tmp_path / 'a.png')


@pytest.mark.parametrize(
    ('name', 'series', 'number'),
    [
        ('p1_v2_00010.png', 'p1_v2_', 10),
        ('p1_v2/7.png', 'p1_v2/', 7),
        ('12.png', '', 12),
        ('a.b/frame.png', 'a.b/frame', -1),
        ('p1_v20.old.jpg', 'p1_v20.old', -1),
    ],
)
def test_series_and_number(name, series, number):
    assert series_key(name) == (series, number, name)


def test_series_stay_together_where_the_alphabet_would_interleave_them(tmp_path):
    touch(tmp_path, *(f'{series}_{number}.png' for series in ('p1', 'p10', 'p2') for number in (1, 2, 10)))
    assert list_images(tmp_path) == [
        'p10_1.png', 'p10_2.png', 'p10_10.png', 'p1_1.png', 'p1_2.png', 'p1_10.png',
        'p2_1.png', 'p2_2.png', 'p2_10.png',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('lengths', 'share', 'start'),
    [
        ((10, 10), 0.5, 10),  # The cut falls between the series already.
        ((10, 10), 0.3, 10),  # It falls into the second one, and moves to its start.
        ((10, 10), 0.7, 6),  # It falls into the first one: moving it would leave nothing to train on.
        ((5, 5, 5, 5), 0.3, 10),
        ((40,), 0.1, 36),  # One series, such as frames named by number alone.
        ((1,) * 100, 0.05, 95),
        ((1, 1), 0.001, 1),  # At least one frame.
    ],
)
def test_the_held_out_tail_starts_with_a_series(lengths, share, start):
    names = [f's{series:03}_{number}.png' for series, length in enumerate(lengths) for number in range(length)]
    assert held_out_start(names, share) == start


def test_maps_are_named_like_their_frames_as_png():
    assert map_names(['a/1.jpg', '2.png', 'x.1.bmp'], 'root') == {
        'a/1.jpg': 'a/1.png', '2.png': '2.png', 'x.1.bmp': 'x.1.png',
    }  # fmt: skip


def test_two_frames_with_one_map_are_refused():
    with pytest.raises(DatasetError, match=r'a/1\.jpg and a/1\.png differ in their endings only'):
        map_names(['a/1.jpg', 'a/1.png'], 'root')


def test_frames_numbered_through_are_not_held_out_as_one_series():
    """A thousand frames in each of two folders: the last folder is one series by its names, and too long a tail."""
    names = [f'{folder}/{number}.png' for folder in 'ab' for number in range(1000)]
    assert held_out_start(names, 0.02) == 2000 - 40
    short = [f'a/x{number:02}_{frame}.png' for number in range(20) for frame in range(10)]
    assert held_out_start(short, 0.07) == 180  # fourteen asked, two whole series given


def test_a_merged_set_is_known_by_frames_in_a_source_folder(tmp_path):
    (tmp_path / 'arcade/syntax/train/images').mkdir(parents=True)
    (tmp_path / 'arcade/syntax/train/images/1.png').touch()
    (tmp_path / 'xa170k/syntax').mkdir(parents=True)
    (tmp_path / 'xa170k/syntax/1.png').touch()
    assert merged_sources(tmp_path / 'arcade') == []
    assert merged_sources(tmp_path / 'xa170k') == ['syntax']


def test_a_merged_set_of_other_sources_is_known_by_maps_beside_all_frames(tmp_path):
    touch(tmp_path, 'b/1.png', 'b_frangi/1.png', 'a/x/1.png', 'a_frangi/x/1.png', 'splits/train.txt', 'a.csv')
    assert merged_sources(tmp_path) == ['a', 'b']
    touch(tmp_path, 'c/1.png')
    assert merged_sources(tmp_path) == []  # A folder of frames, some of which have maps.


def test_ones_own_sources_stand_beside_the_published_ones(tmp_path):
    touch(tmp_path, 'xcad/1.png', 'cadica/1.png', 'mine/a/1.png', 'mine_frangi/a/1.png', 'new/1.png')
    touch(tmp_path, 'splits/train.txt', '.cache/1.png', 'cadica_frangi/1.png', 'old_frangi/1.png')
    assert merged_sources(tmp_path) == ['cadica', 'xcad', 'mine', 'new', 'old_frangi']  # No neighbour `old`: frames.
    (tmp_path / 'cadica/1.png').rename(tmp_path / 'cadica/1.txt')
    (tmp_path / 'xcad/1.png').unlink()
    assert merged_sources(tmp_path) == []


def test_maps_of_another_suffix_are_no_sources(tmp_path):
    touch(tmp_path, 'cadica/1.png', 'cadica_vessels/1.png')
    assert merged_sources(tmp_path, '_vessels') == ['cadica']


def test_pictures_and_cines_of_other_kinds_are_listed_apart(tmp_path):
    touch(
        tmp_path, '1.png', 'b/cine.GIF', 'b/2.jpg', 'photo.heic', 'run.mp4', 'notes.txt', 'report.json', '.hidden.gif'
    )
    found = list_folder(tmp_path)
    assert found.images == ['1.png', 'b/2.jpg']
    assert found.unread == ['b/cine.GIF', 'photo.heic', 'run.mp4']
    assert unread_line(found.unread).startswith('3 files') and 'b/cine.GIF' in unread_line(found.unread)


@pytest.mark.parametrize(
    ('name', 'listable'),
    [
        ('p1/frame 1.png', True),
        ('\u00fc.png', True),
        ('u\u0308.png', True),
        ('a\nb.png', False),
        ('a\rb.png', False),
        ('a\u2028b.png', False),
        ('a\x85b.png', False),
        ('caf\udce9.png', False),
    ],
)
def test_names_that_no_list_can_hold(name, listable):
    assert is_listable(name) == listable
    if listable:
        assert name.encode().decode().splitlines() == [name]


COMPOSED, APART = 'm\u00fcller.png', 'mu\u0308ller.png'


def test_a_name_is_found_in_the_other_spelling_of_its_accents_if_there_is_one(tmp_path):
    assert other_spellings([COMPOSED, 'a.png'], [APART, 'b.png']) == {COMPOSED: APART}
    assert other_spellings([APART], [COMPOSED]) == {APART: COMPOSED}
    # An Angstrom sign, a letter with a ring, and a letter and a ring are one.
    assert other_spellings(['\u212b.png'], ['\u00c5.png', 'A\u030a.png']) == {}
    touch(tmp_path, APART)
    assert on_disk(tmp_path / COMPOSED) == tmp_path / APART
    touch(tmp_path, COMPOSED)
    assert on_disk(tmp_path / COMPOSED) == tmp_path / COMPOSED
    assert on_disk(tmp_path / 'nowhere' / COMPOSED) == tmp_path / 'nowhere' / COMPOSED
