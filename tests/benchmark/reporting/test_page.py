"""The page in a real browser: sorting, filtering, a phone's width, and no word on the console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.benchmark.filled import ENTRIES, PROTOCOL, fill
from vasomim.benchmark.reporting.pages import write_leaderboard

CHROMIUM = shutil.which('chromium')
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='Chromium is not installed: make browser')


@pytest.fixture(scope='module')
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    folder = tmp_path_factory.mktemp('page')
    write_leaderboard(fill(folder / 'results'), folder, PROTOCOL, ENTRIES)
    options = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(folder / 'profile'), executable_path=CHROMIUM, headless=True, args=options
        )
        page = context.new_page()
        page.words = []
        page.on('console', lambda message: page.words.append(message.text))
        page.on('pageerror', lambda error: page.words.append(str(error)))
        page.on('request', lambda request: page.words.append(request.url) if request.url.startswith('http') else None)
        page.goto((folder / 'leaderboard.html').as_uri())
        yield page
        context.close()


def column(page: Any, number: int, table: int = 0) -> list[str]:
    rows = page.locator('table').nth(table).locator('tbody tr')
    return [rows.nth(i).locator('th, td').nth(number).inner_text() for i in range(rows.count())]


def test_sorting_by_a_click_and_by_the_keyboard(page: Any) -> None:
    button = page.locator('table').first.locator('thead button').nth(1)
    head = page.locator('table').first.locator('thead th').nth(1)
    button.click()
    assert head.get_attribute('aria-sort') == 'ascending'
    up = [float(text.split()[0]) for text in column(page, 1)]
    assert up == sorted(up)
    button.focus()
    page.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'descending'
    assert [float(text.split()[0]) for text in column(page, 1)] == sorted(up, reverse=True)


def test_missing_values_come_last_in_both_directions(page: Any) -> None:
    buttons = page.locator('table').first.locator('thead button')
    last = buttons.count() - 1
    for _ in range(2):
        buttons.nth(last).click()
        assert column(page, last)[-2:] == ['missing', 'missing']
    intervals = page.locator('table').nth(1).locator('thead button').nth(6)
    for _ in range(2):
        intervals.click()
        found = column(page, 6, 1)
        without = [text in ('', 'none') for text in found]
        assert any(without) and without == sorted(without)


def test_the_filter_leaves_one_task(page: Any) -> None:
    page.select_option('#task', 'xcav')
    tasks = page.locator('[data-task]:visible').evaluate_all('all => [...new Set(all.map(x => x.dataset.task))].sort()')
    assert tasks == ['', 'xcav']
    assert 'rows shown' in page.locator('#shown').inner_text()
    heads = page.locator('table').first.locator('thead th:visible').all_inner_texts()
    assert [head.strip() for head in heads] == ['Method', 'XCAV DSC', 'Mean rank', 'Borda']
    headings = page.locator('h2:visible').all_inner_texts()
    assert 'Results by task' in headings and 'Trained on one set, tested on another' not in headings
    page.select_option('#task', '')
    assert page.locator('[data-task=arcade_v]:visible').count() > 5


def test_a_phone_sees_no_overflow(page: Any) -> None:
    for width in (320, 390, 1280):
        page.set_viewport_size({'width': width, 'height': 800})
        assert page.evaluate('document.documentElement.scrollWidth') <= width


def test_the_text_of_charts_can_be_read_on_a_phone(page: Any) -> None:
    page.set_viewport_size({'width': 390, 'height': 800})
    heights = page.locator('svg text').evaluate_all('all => all.map(item => item.getBoundingClientRect().height)')
    assert min(heights) >= 11  # Pixels of a line, letters of about 10.
    right = page.locator('svg').evaluate_all(
        'all => all.map(svg => Math.max(...[...svg.querySelectorAll("text")].map(t => t.getBoundingClientRect().right))'
        ' - svg.getBoundingClientRect().right)'
    )
    assert max(right) <= 1
    page.set_viewport_size({'width': 1280, 'height': 800})


def test_light_dark_and_print_have_readable_colors(page: Any) -> None:
    found = set()
    for scheme in ('light', 'dark'):
        page.emulate_media(color_scheme=scheme)
        style = page.evaluate(
            '[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]'
        )
        assert style[0] != style[1]
        found.add(tuple(style))
    assert len(found) == 2
    page.emulate_media(media='print')
    assert not page.locator('.filter').is_visible()
    page.emulate_media(media='screen', color_scheme='light')


def test_nothing_was_said_on_the_console_or_asked_of_the_network(page: Any) -> None:
    assert page.words == []
