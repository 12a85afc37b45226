"The widgets of `explore` in a real JupyterLab, used in a real browser. Whatever is asked of another machine is refused, and counted."

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest

from speaker_vgg_cct.apps.explore import look_into
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.split import make_split
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.experiments.results import read_runs
from speaker_vgg_cct.experiments.study import train_cell
from speaker_vgg_cct.experiments.summary import studies, summary_table
from speaker_vgg_cct.training.loop import load_config
from speaker_vgg_cct.website.report import project_root

pytest.importorskip(
    'jupyterlab', reason='jupyterlab is not installed: pip install speaker_vgg_cct[dev]'
)
sync_api = pytest.importorskip(
    'playwright.sync_api', reason='playwright is not installed: pip install playwright'
)
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / 'nbs' / 'apps' / '20_explore.ipynb'
LONG = 600000  # ms; a busy machine may need so long for what takes seconds on a free one
sync_api.expect.set_options(timeout=LONG)

CELLS = '''import sys; print(sys.executable)
from speaker_vgg_cct.apps.explore import *
---
browse_corpus('corpora')
---
compare_runs({results!r})
---
look_into('corpora/SYNTH_A/audio')'''


def write(path, *sources):
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(s) for s in sources],
            metadata={
                'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}
            },
        ),
        path,
    )


def answering(folder, token):
    "The address that a server has noted in its folder, when it answers there."
    for f in folder.glob('jpserver-*.json'):
        with suppress(OSError, ValueError):  # it is just being written; it does not listen yet
            address = json.loads(f.read_text())['url'].rstrip('/')
            urlopen(f'{address}/api?token={token}', timeout=LONG / 1000).close()
            return address


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A server of its own, with no settings of the user, and a folder with notebooks; yields (address of a notebook, folder)."
    home = tmp_path_factory.mktemp('lab')
    root = home / 'root'
    root.mkdir()
    build(root / 'corpora', corpora=('SYNTH_A', 'SYNTH_B'), speakers=2, sentences=1, jobs=1)
    write(
        root / 'short.ipynb',
        *CELLS.format(results=str(project_root() / 'results')).split('\n---\n'),
    )
    shutil.copy(NOTEBOOK, root)
    token, env = (
        secrets.token_hex(16),
        os.environ
        | {f'JUPYTER_{k}': str(home / k) for k in ('CONFIG_DIR', 'DATA_DIR', 'RUNTIME_DIR')}
        | {'IPYTHONDIR': str(home / 'ipython')},
    )
    env |= {
        'JUPYTERLAB_SETTINGS_DIR': str(home / 'settings'),
        'JUPYTERLAB_WORKSPACES_DIR': str(home / 'workspaces'),
    }
    for name, chosen in {
        'notebook-extension/tracker': '{"windowingMode": "none"}',
        'apputils-extension/notification': '{"fetchNews": "false"}',
    }.items():  # cells out of sight are there too; no question about news
        f = home / 'settings' / '@jupyterlab' / f'{name}.jupyterlab-settings'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(chosen)
    command = [
        sys.executable,
        '-m',
        'jupyterlab',
        '--no-browser',
        '--allow-root',
        '--ServerApp.ip=127.0.0.1',
        '--port=0',
        '--ServerApp.port_retries=100',
        f'--IdentityProvider.token={token}',
        f'--ServerApp.root_dir={root}',
        '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate',
    ]
    with (home / 'log').open('w') as log:
        server = subprocess.Popen(command, env=env, cwd=root, stdout=log, stderr=subprocess.STDOUT)
    end = time.monotonic() + LONG / 1000
    try:
        while not (address := answering(home / 'RUNTIME_DIR', token)):
            assert server.poll() is None and time.monotonic() < end, (home / 'log').read_text()
            time.sleep(0.1)
        yield lambda name, how='lab/tree': f'{address}/{how}/{name}?token={token}', root
    finally:
        server.terminate()
        server.wait(LONG / 1000)


@pytest.fixture(scope='module')
def browser():
    if CHROMIUM is None:
        pytest.skip('there is no Chromium')
    with sync_api.sync_playwright() as p:
        chromium = p.chromium.launch(
            executable_path=CHROMIUM,
            args=['--no-sandbox', '--autoplay-policy=no-user-gesture-required'],
        )
        yield chromium
        chromium.close()


def run_all(browser, address):
    "Opens a notebook and runs it; returns the tab and the list of addresses elsewhere that were asked for."
    tab, elsewhere = browser.new_context(viewport={'width': 1400, 'height': 1000}).new_page(), []
    tab.set_default_timeout(LONG)

    def guard(route):
        here = route.request.url.startswith(address.split('/lab')[0])
        here or elsewhere.append(route.request.url)
        route.continue_() if here else route.abort()

    tab.route('**/*', guard)
    tab.goto(address)
    tab.locator('.jp-Notebook .jp-CodeCell').first.wait_for(timeout=LONG)
    tab.get_by_text('Python 3 (ipykernel) | Idle').wait_for(
        timeout=LONG
    )  # the kernel is there, nobody chose it
    tab.locator('.lm-MenuBar-itemLabel', has_text='Run').click()
    tab.get_by_text('Run All Cells', exact=True).click()
    return tab, elsewhere


def panel(tab, contains):
    "The widget below a cell whose source contains some text."
    found = (
        tab.locator('.jp-CodeCell')
        .filter(has=tab.locator('.jp-InputArea', has_text=contains))
        .locator('.jp-OutputArea .widget-vbox')
        .first
    )
    found.wait_for(timeout=LONG)
    found.scroll_into_view_if_needed()
    return found


def playable(audio):
    "Seconds of an `<audio>` element that really plays."
    return audio.evaluate('''async a => { if (a.readyState < 2) await new Promise((yes, no) => { a.oncanplay = yes; a.onerror = () => no(new Error('cannot be played')); a.load(); });
        await a.play(); a.pause(); return a.duration }''')


def errors(tab):
    "Tracebacks of cells, and widgets that could not be shown."
    return (
        tab.locator(
            '.jp-OutputArea-output', has_text='Traceback (most recent call last)'
        ).all_inner_texts()
        + tab.get_by_text('javascript error').all_inner_texts()
    )


@pytest.fixture(scope='module')
def opened(browser, lab):
    return *run_all(browser, lab[0]('short.ipynb')), lab[1]


def test_a_corpus_is_browsed(opened):
    tab, elsewhere, root = opened
    w = panel(tab, 'browse_corpus(')
    image = w.locator('img')
    image.wait_for(timeout=LONG)
    assert (
        tab.locator('.jp-OutputArea-output pre').first.inner_text().strip() == sys.executable
    )  # the kernel is the environment's
    clips = w.locator('select[size]')
    assert clips.locator('option').count() == len([*root.glob('corpora/*/audio/*.wav')])
    before, told = image.get_attribute('src'), image.get_attribute('alt')
    assert playable(w.locator('audio').first) > 0.5
    w.get_by_label('emotion').select_option('sad')
    sync_api.expect(image).not_to_have_attribute('alt', told, timeout=LONG)
    assert image.get_attribute('src') != before
    assert (
        all('_sad_' in c for c in clips.locator('option').all_inner_texts())
        and clips.locator('option').count() == 4
    )
    clips.select_option(index=3)
    last = clips.locator('option').nth(3).inner_text()
    sync_api.expect(image).to_have_attribute(
        'alt', f'Spectrogram of {last}, and of its eight augmented copies', timeout=LONG
    )
    assert image.evaluate('i => i.naturalWidth') > 400 and playable(w.locator('audio').first) > 0.5


def test_speakers_are_compared(opened):
    tab, *_ = opened
    w = panel(tab, 'browse_corpus(')
    w.get_by_label('emotion').select_option('all')
    w.get_by_text('Map of speakers').click()
    sync_api.expect(w.locator('img:visible')).to_have_attribute(
        'alt', 'Speaker vectors on a plane; in colour: everybody', timeout=LONG
    )
    w.get_by_label('speaker', exact=True).select_option('SYNTH_A/a01')
    w.get_by_label('compare with').select_option('SYNTH_B/b02')
    sync_api.expect(w.locator('img:visible')).to_have_attribute(
        'alt', 'Speaker vectors on a plane; in colour: SYNTH_A/a01, SYNTH_B/b02', timeout=LONG
    )
    sync_api.expect(w).to_contain_text('a cosine of')
    assert playable(w.locator('audio:visible')) > 0.5


def test_runs_are_compared(opened):
    tab, *_ = opened
    w = panel(tab, 'compare_runs(')
    table = summary_table(studies(read_runs(project_root() / 'results'))[0][1])
    two = [*table.index[:2]]
    w.locator('table:visible').wait_for(timeout=LONG)
    w.locator('select[multiple]').first.select_option(two)
    rows = w.locator('table:visible tbody tr')
    sync_api.expect(rows).to_have_count(2, timeout=LONG)
    assert [r.split('\t')[0] for r in rows.all_inner_texts()] == two and table.loc[
        two[0], 'mean'
    ] in rows.first.inner_text()
    w.get_by_text('Confusion', exact=True).click()
    w.locator('img:visible').wait_for(timeout=LONG)


def test_a_clip_is_looked_into(opened):
    tab, elsewhere, root = opened
    w = panel(tab, 'look_into(')
    image = w.locator('img')
    image.wait_for(timeout=LONG)
    assert w.locator('progress').count() > 1
    before = image.get_attribute('alt')
    w.locator('select[size]').select_option(index=3)
    sync_api.expect(image).not_to_have_attribute('alt', before, timeout=LONG)
    assert playable(w.locator('audio')) > 0.5 and not errors(tab)
    assert not elsewhere, elsewhere  # the widgets' own code, too, comes from this machine


@pytest.mark.slow
def test_a_run_is_looked_into(tmp_path):
    "A run is made a bundle for it; a folder of runs offers each."
    manifest, _ = read_corpora(build(tmp_path / 'corpora', sentences=2, jobs=1))
    split = make_split(manifest, None, balance='no_balanced')
    train_cell(
        split,
        manifest,
        load_config('quick', epochs=1, warmup_epochs=0),
        tmp_path / 'output' / 'run',
        tmp_path / 'features',
        'cpu',
        jobs=1,
    )
    p = look_into(manifest[:3], tmp_path / 'output').parts
    assert (
        p.model.options == ('run',)
        and f'Labelled {manifest.emotion[0]}' in p.said.value
        and '<img' in p.picture.value
        and '<progress' in p.bars.value
    )


@pytest.mark.slow
def test_the_notebook_itself(browser, lab):
    "What `make lab` opens, from its first cell to its last."
    tab, elsewhere = run_all(browser, lab[0](NOTEBOOK.name))
    for last in (
        'browse_corpus(corpora)',
        'compare_runs(results)',
        'look_into(read_labels(corpora)[0], models)',
    ):
        panel(tab, last).locator('img').first.wait_for(timeout=LONG)
    assert not errors(tab) and not elsewhere


def test_no_widget_is_stored():
    "Neither a widget, which would be dead, nor a sound is in the notebook."
    nb = nbformat.read(NOTEBOOK, 4)
    kinds = {k for c in nb.cells for o in c.get('outputs', ()) for k in o.get('data', ())}
    assert 'widgets' not in nb.metadata and not [
        k for k in kinds if 'widget' in k or 'audio' in k
    ], 'clear the outputs of the cells that show widgets, and save without their state'
