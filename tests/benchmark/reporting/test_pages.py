"""The pages say what the table holds, the same every time, and nothing breaks their markup."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.benchmark.filled import ENTRIES, PROTOCOL, fill
from vasomim.benchmark.reporting.html import embedded
from vasomim.benchmark.reporting.latex import comma_separated, escape
from vasomim.benchmark.reporting.pages import check_leaderboard, markers, with_table, write_leaderboard
from vasomim.benchmark.reporting.table import build, read_reported
from vasomim.benchmark.results.records import StoreError, digest
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.study.entries import Entries
from vasomim.benchmark.study.loading import benchmark_folder
from vasomim.cli import main
from vasomim.errors import ConfigError


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill(tmp_path_factory.mktemp('results'))


@pytest.fixture(scope='module')
def pages(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Path:
    folder = tmp_path_factory.mktemp('pages')
    paths = write_leaderboard(store, folder, PROTOCOL, ENTRIES)
    assert all(path.is_file() for path in paths)
    return folder


def test_another_process_writes_the_same_bytes_and_a_change_is_found(store: Store, pages: Path) -> None:
    code = (
        'import sys\nfrom vasomim.benchmark.reporting.pages import check_leaderboard\n'
        'from vasomim.benchmark.results.store import Store\n'
        'from tests.benchmark.filled import ENTRIES, PROTOCOL\n'
        'sys.exit(len(check_leaderboard(Store(sys.argv[1]), sys.argv[2], PROTOCOL, ENTRIES)))'
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, '-c', code, str(store.folder), str(pages)]
    assert subprocess.run(command, cwd=root, check=False).returncode == 0
    page = pages / 'LEADERBOARD.md'
    before = page.read_text(encoding='utf-8')
    page.write_text(before + ' ', encoding='utf-8')
    assert check_leaderboard(store, pages, PROTOCOL, ENTRIES) == [page]
    page.write_text(before, encoding='utf-8')


def test_markdown_names_what_is_missing_and_why(pages: Path) -> None:
    text = (pages / 'LEADERBOARD.md').read_text(encoding='utf-8')
    scratch = next(line for line in text.splitlines() if line.startswith('| SCRATCH'))
    assert 'failed (2 of 3 seeds)' in scratch
    assert scratch.rstrip(' |').endswith('missing')  # No rank.
    assert 'missing (2 of 3 seeds)' in text
    assert 'OutOfMemory: too &lt;large> & too & many' in text
    assert 'Images of one patient are not independent' in text
    assert '70 of its 72 cells have a result' in text
    tables = [part.splitlines() for part in text.split('\n\n') if part.startswith('|')]
    assert len(tables) > 3
    assert all(len({line.replace('\\|', '').count('|') for line in rows}) == 1 for rows in tables)


def test_csv_is_read_back(store: Store, pages: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((pages / 'leaderboard.csv').read_text(encoding='utf-8'))))
    table = build(store, PROTOCOL, ENTRIES)
    assert len(rows) == sum(len(row['metrics']) for row in table.results)
    row = next(r for r in rows if list(r.values())[:4] == ['xcav', 'DSC', 'mae', '1.0'])
    assert float(row['mean']) == pytest.approx(table.result('xcav', 'mae')['metrics']['DSC']['mean'], abs=1e-6)
    assert {r['mean'] for r in rows if r['status'] != 'finished'} == {''}


def test_latex_is_escaped() -> None:
    assert escape('a_b & 5 % \\ {x} ± 1') == r'a\_b \& 5 \% \textbackslash{} \{x\} $\pm$ 1'


def test_latex_has_a_column_for_each_heading(pages: Path) -> None:
    text = (pages / 'leaderboard.tex').read_text(encoding='utf-8')
    columns = len(re.findall(r'\\begin\{tabular\}\{(l r*|lr*)\}', text)[0])
    rows = [line for line in text.splitlines() if line.endswith(r'\\')]
    assert {len(re.split(r'(?<!\\)&', row)) for row in rows} == {columns}
    assert not re.search(r'(?<!\\)[%_#]', text.replace('\\toprule', ''))


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_no_network_and_tells_a_screen_reader(pages: Path) -> None:
    text = (pages / 'leaderboard.html').read_text(encoding='utf-8')
    page = Page()
    page.feed(text)
    for _, attributes in page.found:
        for key in ('src', 'href'):
            assert (attributes.get(key) or 'data:').startswith('data:')
    assert 'http' not in re.sub(r'arXiv[^<]*', '', text)
    number = {tag: sum(found == tag for found, _ in page.found) for tag in ('table', 'caption', 'svg')}
    assert number['table'] == number['caption'] >= 6
    assert number['svg'] >= 8
    assert all(attributes.get('aria-label') for tag, attributes in page.found if tag == 'svg')
    assert all(attributes.get('scope') for tag, attributes in page.found if tag == 'th')
    assert 'too &lt;large&gt; &amp; too &amp; many' in text
    assert not re.search(r'\b(nan|None)\b', text)


HOSTILE = 'A | b\n# <script>alert(1)</script> [x](http://evil) `c` &lt; \\ *d* \u202e'


@pytest.fixture(scope='module')
def hostile(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Path:
    """Pages whose titles and references all hold what means something to a page."""
    folder = tmp_path_factory.mktemp('hostile')
    tasks = {name: replace(task, title=f'{HOSTILE} {name}') for name, task in ENTRIES.tasks.items()}
    methods = {
        name: replace(method, title=f'{mark}{HOSTILE} {name}', reference=HOSTILE)
        for (name, method), mark in zip(ENTRIES.methods.items(), ('', '=', '[', '*'), strict=True)
    }
    write_leaderboard(store, folder, replace(PROTOCOL, title=HOSTILE), Entries(tasks, methods, {}))
    return folder


def test_no_title_is_markup_of_a_markdown_page(pages: Path, hostile: Path) -> None:
    for name in ('LEADERBOARD.md', 'cards/mae.md'):
        text, sound = ((folder / name).read_text(encoding='utf-8') for folder in (hostile, pages))
        assert '<' not in re.sub('`[^`\n]*`', '', text).replace('< 0.001', '') and '\u202e' not in text
        assert not re.search(r'(?<!\\)\[x', text) and '&amp;lt;' in text
        lines, sound_lines = text.splitlines(), sound.splitlines()
        assert len(lines) == len(sound_lines)  # No title begins a line of its own.
        for line, other in zip(lines, sound_lines, strict=True):
            assert len(re.findall(r'(?<!\\)\|', line)) == len(re.findall(r'(?<!\\)\|', other)), line


def test_no_title_is_markup_of_the_html_page(pages: Path, hostile: Path) -> None:
    tags = []
    for folder in (pages, hostile):
        page = Page()
        page.feed((folder / 'leaderboard.html').read_text(encoding='utf-8'))
        tags.append([tag for tag, _ in page.found if tag != 'span'])  # One for each word of a title.
    assert tags[0] == tags[1]


def test_no_title_ends_a_row_of_latex_or_is_an_option_of_it(pages: Path, hostile: Path) -> None:
    text, sound = ((folder / 'leaderboard.tex').read_text(encoding='utf-8') for folder in (hostile, pages))
    assert len(text.splitlines()) == len(sound.splitlines())
    assert not [line for line in text.splitlines() if line.startswith(('[', '*'))]
    rows = [re.sub(r'\\textbackslash', '', line) for line in text.splitlines() if line.endswith(r'\\')]
    assert len({len(re.split(r'(?<!\\)&', row)) for row in rows}) == 1


def test_no_name_in_the_csv_file_is_a_formula(store: Store) -> None:
    table = build(store, PROTOCOL, ENTRIES).as_dict()
    table['results'][0] |= {'task': '=1+1', 'command': '@x', 'method': '-2'}
    row = list(csv.reader(io.StringIO(comma_separated(table))))[1]
    assert (row[0], row[2], row[-1]) == ("'=1+1", "'-2", "'@x")


def test_a_score_that_was_edited_with_its_checksum_is_no_result(tmp_path: Path) -> None:
    edited = fill(tmp_path)
    cell = next(cell for cell in edited.cells() if cell.task == 'xcav')
    path = tmp_path / f'{cell.cell}.json'
    record = json.loads(path.read_text()) | {'scores': {'DSC': 0.99}}
    del record['checksum']
    path.write_text(json.dumps(record | {'checksum': digest(record)}))
    with pytest.raises(StoreError, match=f'{cell.cell}.json.*0.99'):
        build(edited, PROTOCOL, ENTRIES)


@pytest.mark.parametrize('file', ['../secret.png', '/etc/passwd', 'a/b.png', '..', 'x.txt', 3, None])
def test_the_page_shows_no_file_from_elsewhere(tmp_path: Path, file: object) -> None:
    (tmp_path / 'secret.png').write_bytes(b'secret')
    (tmp_path / 'pictures').mkdir()
    listed = [{'file': file, 'task': '', 'title': 'x', 'alt': 'x'}]
    (tmp_path / 'pictures' / 'pictures.json').write_text(json.dumps(listed))
    with pytest.raises(ConfigError, match=r'pictures\.json'):
        embedded(tmp_path / 'pictures')


def test_both_pages_say_how_large_the_family_of_each_task_is(pages: Path) -> None:
    said = 'Holm over the comparisons that were planned with the same task and labels (with all labels 3 on ARCADE-V, '
    for name in ('LEADERBOARD.md', 'leaderboard.html'):
        assert said in (pages / name).read_text(encoding='utf-8'), name


def test_pictures_are_embedded(tmp_path: Path, store: Store) -> None:
    (tmp_path / 'one_frame.png').write_bytes(b'\x89PNG')
    write_leaderboard(store, tmp_path / 'out', PROTOCOL, ENTRIES, tmp_path)
    assert 'data:image/png;base64,iVBORw==" alt="one frame"' in (tmp_path / 'out/leaderboard.html').read_text('utf-8')


def test_reported_figures_are_shown_apart(store: Store) -> None:
    reported = read_reported(benchmark_folder() / 'reported.yaml')
    assert len(reported) > 60
    assert {'method', 'task', 'metric', 'value', 'setting', 'source'} == set(reported[0])
    with_them = build(store, PROTOCOL, ENTRIES, reported)
    without = build(store, PROTOCOL, ENTRIES)
    assert with_them.as_dict()['ranks'] == without.as_dict()['ranks']
    assert with_them.as_dict()['results'] == without.as_dict()['results']


def test_the_table_goes_between_the_markers_and_nowhere_else(store: Store) -> None:
    table = build(store, PROTOCOL, ENTRIES).as_dict()
    begin, end = markers('study')
    other = '\n'.join(markers('another'))  # A text may hold the tables of several studies.
    once = with_table(f'# Title\n{begin}\nold\n{end}\n{other}\nrest', table)
    assert once == with_table(once, table)
    assert once.startswith('# Title\n')
    assert once.endswith(f'\n{other}\nrest')
    assert 'VASOMIM' in once
    assert 'old' not in once
    with pytest.raises(ConfigError, match='not marked'):
        with_table(f'no markers but\n{other}', table)


def test_a_card_of_each_method(pages: Path) -> None:
    card = (pages / 'cards' / 'mae.md').read_text(encoding='utf-8')
    assert card.startswith('# MAE\n')
    assert 'MAE_AGAIN' not in card
    assert 'ARCADE-V DSC' in card


def test_an_empty_store_gives_a_page_that_says_so(tmp_path: Path) -> None:
    write_leaderboard(Store(tmp_path / 'none'), tmp_path, PROTOCOL, ENTRIES)
    text = (tmp_path / 'LEADERBOARD.md').read_text(encoding='utf-8')
    assert 'none of its 72 cells has a result so far' in text and '`vasomim benchmark run --protocol study`' in text
    assert '--protocol study --only task=arcade_v method=mae' in text  # What computes each row.
    assert '## Tie groups' not in text and '## Comparisons' not in text
    page = (tmp_path / 'leaderboard.html').read_text(encoding='utf-8')
    assert 'none of its 72 cells has a result' in page and 'Overview' not in page and '<h2>Charts' not in page
    readme = with_table('\n'.join(markers('study')), build(Store(tmp_path / 'none'), PROTOCOL, ENTRIES).as_dict())
    assert 'none of its 72 cells' in readme and '|' not in readme


def test_the_verb_writes_the_pages_beside_the_results(tmp_path):
    assert main('benchmark', ['report', '--protocol', 'smoke', '--results', str(tmp_path / 'results')]) == 0
    assert '# Smoke run' in (tmp_path / 'leaderboard/LEADERBOARD.md').read_text(encoding='utf-8')
    assert (tmp_path / 'leaderboard/leaderboard.html').is_file()


def test_pages_of_another_study_are_not_overwritten(tmp_path, capsys):
    places = ['--results', str(tmp_path / 'results')]
    assert main('benchmark', ['report', '--protocol', 'smoke', *places]) == 0
    before = (tmp_path / 'leaderboard/LEADERBOARD.md').read_bytes()
    assert main('benchmark', ['report', '--protocol', 'arcade_cpu', *places]) == 2
    assert "pages of study 'smoke'" in capsys.readouterr().err
    assert (tmp_path / 'leaderboard/LEADERBOARD.md').read_bytes() == before
    options = ['--output', str(tmp_path / 'other'), '--seeds', '1', '--only', 'task=arcade_v']
    assert main('benchmark', ['report', '--protocol', 'arcade_cpu', *places, *options]) == 0
    text = (tmp_path / 'other/LEADERBOARD.md').read_text(encoding='utf-8')
    assert 'ARCADE-S boxes' not in text and 'One seed was planned' in text
    assert '--protocol arcade_cpu --seeds 1 --only task=arcade_v' in text


def test_pages_of_a_whole_study_are_not_overwritten_by_a_part_of_it(tmp_path, capsys):
    places = ['--protocol', 'arcade_cpu', '--results', str(tmp_path / 'results')]
    assert main('benchmark', ['report', *places]) == 0
    assert main('benchmark', ['report', *places, '--only', 'method=mae,vasomim']) == 2
    assert 'it holds pages of more than this part of the study.' in capsys.readouterr().err
    assert main('benchmark', ['report', *places]) == 0
