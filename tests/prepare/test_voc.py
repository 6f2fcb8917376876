"""Pascal VOC files as tools write them: encodings, sizes of 0 x 0, turned boxes; and hostile ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.trees import SIZE, VOC, frame, write_png
from vasomim.errors import DatasetError
from vasomim.prepare.plan import Repairs
from vasomim.prepare.voc import read_voc

LABEL = '狭窄'


def text(label: str = 'Stenosis', size: object = SIZE, box: tuple[object, ...] = (3, 5, 12, 9)) -> str:
    return VOC.format(name='a', size=size, label=label, box=box)


def read(tmp_path: Path, content: bytes | str, repairs: Repairs | None = None) -> tuple:
    path = tmp_path / 'a.xml'
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    write_png(tmp_path / 'a.png', frame(0))
    return read_voc(path, tmp_path / 'a.png', Repairs() if repairs is None else repairs)


@pytest.mark.parametrize(
    ('declared', 'codec', 'label'),
    [
        ('GB2312', 'gb2312', LABEL),
        ('gbk', 'gbk', LABEL),
        ('GB18030', 'gb18030', LABEL),
        ('Shift_JIS', 'shift_jis', LABEL),
        ('windows-1252', 'cp1252', 'Verschluß'),
        ('ISO-8859-1', 'latin-1', 'Verschluß'),
        ('utf-8', 'utf-8-sig', LABEL),
        ('utf-16', 'utf-16', LABEL),
        ('utf-16', 'utf-8', LABEL),  # As tools of .NET declare what they write as UTF-8.
        ('ANSI', 'ascii', 'Stenosis'),  # No name of an encoding, but all that use it agree on these letters.
    ],
)
def test_files_are_read_in_their_encoding(tmp_path, declared, codec, label):
    content = f'<?xml version="1.0" encoding="{declared}"?>\n{text(label)}'.encode(codec)
    assert read(tmp_path, content) == ((SIZE, SIZE), [(label, (2, 4, 10, 5))])


@pytest.mark.parametrize(
    ('content', 'word'),
    [
        (f'<?xml version="1.0" encoding="ANSI"?>{text(LABEL)}'.encode('gbk'), "'ANSI'"),
        (f'<?xml version="1.0" encoding="zlib"?>{text(LABEL)}'.encode(), "'zlib'"),
        (f'<?xml version="1.0" encoding="punycode"?>{text(LABEL)}'.encode(), "'punycode'"),
        (f'<?xml version="1.0" encoding="utf-8"?>{text(LABEL)}'.encode('gbk'), "'utf-8'"),
        (text(LABEL).encode('gbk'), "'utf-8'"),
        (b'', 'XML'),
        (bytes(range(256)), 'a.xml'),
        (text(box=('nan', 5, 12, 9)), "'nan'"),
        (text(box=(3, 5, '1e999', 9)), "'1e999'"),
        (text(box=(3, 5, '', 9)), 'xmax'),
        (text(size='nan'), "'nan'"),
        (text(size='1e300'), 'size'),
        (text(size='-5'), 'size'),
        (text(size='2.5'), 'size'),
        (text(label=''), 'no name'),
        (text().replace('bndbox', 'robndbox'), 'robndbox'),
        ('<annotation/>', 'size/width'),
        ('<a>' * 200_000, 'XML'),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + text('&x;'), 'entities'),
    ],
)
def test_damaged_and_hostile_files_are_errors(tmp_path, content, word):
    with pytest.raises(DatasetError, match=r'a\.xml') as caught:
        read(tmp_path, content)
    assert word in str(caught.value)


def test_entities_that_would_expand_are_refused(tmp_path):
    levels = ''.join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 10))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "{"x" * 1000}">{levels}]>{text("&e9;")}'
    with pytest.raises(DatasetError, match='entities'):
        read(tmp_path, bomb)
    with pytest.raises(DatasetError, match='entities'):
        read(tmp_path, f'<?xml version="1.0" encoding="utf-16"?>{bomb}'.encode('utf-16'))


def test_deep_nesting_is_read(tmp_path):
    deep = '<x>' * 50_000 + '</x>' * 50_000
    assert read(tmp_path, text().replace('<size>', f'{deep}<size>'))[1] == [('Stenosis', (2, 4, 10, 5))]


def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / 'a.xml')
    with pytest.raises(DatasetError, match='regular'):
        read_voc(tmp_path / 'a.xml', tmp_path / 'a.png', Repairs())


def test_a_size_of_0_is_that_of_the_image(tmp_path):
    repairs = Repairs()
    assert read(tmp_path, text(size=0), repairs) == ((SIZE, SIZE), [('Stenosis', (2, 4, 10, 5))])
    assert repairs.places == {'sizes of 0 x 0 taken from the image itself': ['a.xml']}
    (tmp_path / 'a.png').write_bytes(b'no image')
    with pytest.raises(DatasetError, match='0 x 0'):
        read_voc(tmp_path / 'a.xml', tmp_path / 'a.png', Repairs())


def test_a_box_that_cvat_turned(tmp_path):
    """From 9 to 12 and 5 to 14: 4 wide and 10 high about (10, 9); a quarter turn is 10 wide and 4 high."""
    turn = '<attributes><attribute><name>rotation</name><value>{}</value></attribute></attributes></object>'
    content = text(box=(9, 5, 12, 14))
    assert read(tmp_path, content.replace('</object>', turn.format('0.0')))[1] == [('Stenosis', (8, 4, 4, 10))]
    repairs = Repairs()
    ((_, box),) = read(tmp_path, content.replace('</object>', turn.format('90.0')), repairs)[1]
    assert np.allclose(box, (5, 7, 10, 4))
    assert list(repairs.places) == ['boxes that are turned: the box around each taken']
