from __future__ import annotations

import os
import pickle

from vasomim.errors import DatasetError, VasoMIMError, did_you_mean, printable


def test_an_error_says_where_what_and_how_to_mend_it():
    error = DatasetError('frames/17.png', 'the file is truncated.', 'Copy it again.')
    assert isinstance(error, VasoMIMError)
    assert str(error) == 'frames/17.png: the file is truncated.\n  Copy it again.'


def test_an_error_survives_the_way_out_of_a_worker_process():
    error = pickle.loads(pickle.dumps(DatasetError('17.png', 'the file is truncated.', 'Copy it again.')))
    assert (error.where, error.what, error.cure) == ('17.png', 'the file is truncated.', 'Copy it again.')


def test_did_you_mean_suggests_only_what_resembles():
    assert did_you_mean('tarin', ['train', 'extract']) == " Did you mean 'train'?"
    assert did_you_mean('banana', ['train', 'extract']) == ''
    assert did_you_mean('anything', []) == ''


def test_names_of_files_reach_a_terminal_in_printable_form() -> None:
    name = os.fsdecode(b'gef\xe4\xdf\n\x1b[31m') + '\u202e' + 'ä'
    assert printable(name) == 'gef\\xe4\\xdf\\n\\x1b[31m\\u202eä'
    text = str(DatasetError(name, f'{name} is damaged.', 'First.\nSecond.'))
    assert text.encode() and '\x1b' not in text and text.splitlines()[1:] == ['  First.', 'Second.']
