"""The progress bar of work on many files, on no terminal."""

from __future__ import annotations

from vasomim import progress
from vasomim.progress import progress_bar


def test_a_line_now_and_then_counts_and_rates_what_this_run_did(monkeypatch, capsys):
    monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', -1.0)
    with progress_bar('Reading [bold]\x1b', unit='frames') as report:
        report(10, 30)  # What an earlier run did is no speed of this one.
        report(20, 30)
    first, second = capsys.readouterr().out.splitlines()
    assert first == 'Reading [bold]\\x1b: 10 of 30 frames'
    counted, rate, left = second.split(', ')
    assert counted == 'Reading [bold]\\x1b: 20 of 30 frames'
    assert float(rate.removesuffix(' frames/s')) > 0 and left.endswith(' s left')


def test_without_a_unit_there_is_no_rate(monkeypatch, capsys):
    monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', -1.0)
    with progress_bar('Reading') as report:
        report(0, 2)
        report(1, 2)
    assert capsys.readouterr().out.splitlines()[1].split(', ')[0] == 'Reading: 1 of 2'
    assert '/s' not in capsys.readouterr().out


def test_nothing_is_shown_unless_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', -1.0)
    with progress_bar('Reading', shown=False) as report:
        report(1, 2)
    assert capsys.readouterr() == ('', '')
