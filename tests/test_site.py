"The whole path as a user walks it, corpora, verbs, an experiment, a site, and twice the same; then that site, read and in a browser, and the README: each page is made, each link and picture resolves, nothing comes from the network, everybody can use it, and the text says what the program does."

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from typer.main import get_command
from typer.testing import CliRunner

from speaker_vgg_cct.cli.verbs import app, own_folder
from speaker_vgg_cct.config import weights_path
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.evaluation.baselines import BASELINES, baseline_setting
from speaker_vgg_cct.experiments.results import read_runs
from speaker_vgg_cct.training.loop import load_config
from speaker_vgg_cct.website.report import (
    build_site,
    module_pages,
    readme_text,
    run_pages,
    source_of,
)

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / 'nbs'
MODULES = [m for m in sorted((ROOT / 'speaker_vgg_cct').rglob('[a-z]*.py'))]
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
MODEL = 'speaker_vgg_cct_end_to_end_2_7x2_112'  # of the preset `quick`
LONG = 600_000  # ms; a busy machine may need so long for what takes seconds on a free one


def cli(*args, status=0, cwd=ROOT):
    code = 'from speaker_vgg_cct.cli.verbs import app; app()'
    r = subprocess.run(
        [sys.executable, '-c', code, *map(str, args)], cwd=cwd, capture_output=True, text=True
    )
    assert r.returncode == status, f'{args}\n{r.stdout}\n{r.stderr}'
    return r.stdout if status == 0 else r.stderr


@pytest.fixture(scope='module')
def corpora(tmp_path_factory):
    return build(tmp_path_factory.mktemp('corpora') / 'small', sentences=1)


# stands for `python -m venv .venv`: what it makes runs the modules of the checkout in the environment of the tests
FAKE_PYTHON = f"""#!/bin/sh
mkdir -p .venv/bin
printf '#!/bin/sh\\nexit 0\\n' > .venv/bin/python
printf '#!/bin/sh\\nPYTHONPATH="%s" exec {sys.executable} -c "from speaker_vgg_cct.cli.verbs import app; app()" "$@"\\n' "$PWD" > .venv/bin/speaker-vgg-cct
chmod +x .venv/bin/python .venv/bin/speaker-vgg-cct
"""
GIT = [
    'git',
    '-c',
    'user.name=test',
    '-c',
    'user.email=test@example.org',
    '-c',
    'commit.gpgsign=false',
]
OWN = ['EMODB', 'HARBOUR']  # one has the name of a corpus of the recorded study


def run_in(folder, *args):
    r = subprocess.run(args, cwd=folder, capture_output=True, text=True)
    assert r.returncode == 0, f'{args}\n{r.stdout}\n{r.stderr}'
    return r.stdout


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    "What the repository holds, committed once more in a folder of its own."
    folder = tmp_path_factory.mktemp('checkout') / 'svc'
    if subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=ROOT, capture_output=True).returncode:
        pytest.skip('this is no git checkout')
    for name in run_in(ROOT, 'git', 'ls-files', '-co', '--exclude-standard').splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run_in(folder, 'git', 'init', '-q')
    run_in(folder, 'git', 'add', '-A')
    run_in(folder, *GIT, 'commit', '-qm', 'all')
    return folder


@pytest.fixture(scope='module')
def own_corpora(corpora, tmp_path_factory):
    "Two corpora as a user brings them: some clips in a folder, and a table. Two speakers of one have a recording in common."
    folder, (table, _) = tmp_path_factory.mktemp('own') / 'corpora', read_corpora(corpora, jobs=1)
    for name, rows in zip(OWN, (table[table.corpus == c] for c in ('SYNTH_A', 'SYNTH_C'))):
        (folder / name / 'audio').mkdir(parents=True)
        rows = rows.assign(
            file=[f'audio/{i:03}.wav' for i in range(len(rows))],
            speaker=rows.speaker.str.split('/').str[1],
        )
        for row in rows.itertuples():
            shutil.copy(row.path, folder / name / row.file)
        if name == 'HARBOUR':
            first = rows[rows.emotion == 'sad'].groupby('speaker').file.first()
            shutil.copy(folder / name / first.iloc[0], folder / name / first.iloc[1])
        rows[['file', 'emotion', 'speaker', 'gender', 'language']].to_csv(
            folder / name / 'metadata.csv', index=False
        )
    return folder


@pytest.fixture(scope='module')
def asked(checkout, own_corpora, tmp_path_factory):
    "The options of one `make report`, and where it is called: not in the checkout."
    home = tmp_path_factory.mktemp('home')
    (home / 'python').write_text(FAKE_PYTHON)
    (home / 'python').chmod(0o755)
    (home / 'short.yaml').write_text('{preset: quick, epochs: 2, warmup_epochs: 1, img_size: 32}')
    return home, [
        'make',
        '-C',
        str(checkout),
        f'PYTHON={home / "python"}',
        'report',
        f'CORPORA={own_corpora}',
        f'OUT={home / "out"}',
        f'PRESET={home / "short.yaml"}',
        'JOBS=1',
    ]


@pytest.fixture(scope='module')
def reported(asked):
    "One `make report`: the folder of what it made, and what it said."
    home, command = asked
    clean = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}
    r = subprocess.run(command, cwd=home, env=clean, capture_output=True, text=True)
    assert r.returncode == 0, f'{r.stdout}\n{r.stderr}'
    return home / 'out' / 'corpora', r.stdout + r.stderr


def test_a_report_leaves_the_checkout_as_it_was(reported, checkout):
    assert run_in(checkout, 'git', 'status', '--porcelain') == ''
    ignored = run_in(checkout, 'git', 'status', '--porcelain', '--ignored').split()[1::2]
    assert all(f == '.venv/' or f.endswith('__pycache__/') for f in ignored), ignored
    assert {f.name for f in reported[0].parent.iterdir()} == {'corpora'}


def test_results_table(reported):
    table = read_runs(reported[0] / 'results')
    assert (
        sorted(set(table.test_corpus)) == OWN
        and len(table) == 2 * table.system.nunique()
        and not table.synthetic.any()
    )
    assert (
        {'chance', 'majority', 'speaker embedding + SVM', MODEL}
        <= set(table.system)
        <= {'chance', 'majority', *BASELINES, MODEL}
    )
    assert {s: set(t.setting) for s, t in table.groupby('system')} == {
        s: {baseline_setting(s) if s in BASELINES else 'inductive'} for s in table.system
    }
    run = table[table.uar_low.notna()]
    assert ((run.uar_low <= run.uar) & (run.uar <= run.uar_high)).all()
    for _, row in run.iterrows():
        recalls = row[[c for c in table if c.startswith('recall_')]]
        assert recalls.mean() == pytest.approx(row.uar, abs=1e-3)


def test_run_folder_agrees_with_the_table(reported):
    out, table = reported[0], read_runs(reported[0] / 'results')
    folders = [f.parent for f in out.rglob('performance.yaml')]
    assert len(folders) == 2
    for folder in folders:
        made, scored = (
            json.loads((folder / 'provenance.json').read_text()),
            yaml.safe_load((folder / 'performance.yaml').read_text()),
        )
        row = table[
            (table.split_hash == made['split_hash']) & (table.config_hash == made['config_hash'])
        ].iloc[0]
        assert (
            row.uar == pytest.approx(scored['uar'])
            and row.test_corpus == made['split']['test_corpus']
        )
        assert {
            'args.yaml',
            'summary.csv',
            'model_best.safetensors',
            'predictions.csv',
            'conf_matrix.png',
            'graphs',
        } <= {f.name for f in folder.iterdir()}
        guessed = pd.read_csv(folder / 'predictions.csv')
        assert set(guessed.corpus) == {row.test_corpus} and (
            guessed.truth == guessed.prediction
        ).mean() * 100 == pytest.approx(scored['accuracy'], abs=1e-3)


def test_the_first_page_is_about_ones_own_corpora(reported):
    out, shown = reported
    assert f'site: open {out / "site" / "index.html"}' in shown
    main = BeautifulSoup(
        (out / 'site' / 'index.html').read_text(encoding='utf-8'), 'html.parser'
    ).main
    head = [c.get_text(strip=True) for c in main.table.find_all('tr')[0].find_all(['th', 'td'])]
    assert [h for h in head if h in OWN] == OWN and main.h1.get_text(strip=True) == 'Your results'
    rows = {
        r.td.get_text(strip=True): r.get_text(' ', strip=True)
        for r in main.table.find_all('tr')[1:]
    }
    table = read_runs(out / 'results')
    inductive = table[table.setting == 'inductive']
    for system, part in inductive.groupby('system'):
        told = next(v for k, v in rows.items() if k.replace('’', "'") == system)
        assert all(f'{uar:.1f}' in told for uar in part.uar), system
    assert main.find('img') and 'recorded study' in main.get_text()
    assert {f'held_out/{c}-seed0.html' for c in OWN} <= {
        a['href'] for a in main.find_all('a', href=True)
    }
    # nothing of the recorded study, although a corpus has the name of one of its corpora
    recorded = read_runs(ROOT / 'results')
    assert not {c for c in set(recorded.test_corpus) - set(OWN) | {'CAM++'} if c in main.get_text()}


def test_a_recording_of_two_speakers_is_told_and_kept_in_one_part(reported):
    out, shown = reported
    shared = pd.read_csv(out / 'results' / 'shared_recordings.csv')
    assert (
        len(shared) == 1
        and shared.speakers[0].count('HARBOUR/') == 2
        and 'under several names' in shown
    )
    for page, joined in (('EMODB-seed0', True), ('HARBOUR-seed0', False)):
        text = BeautifulSoup(
            (out / 'site' / 'held_out' / f'{page}.html').read_text(encoding='utf-8'), 'html.parser'
        ).main.get_text()
        assert (
            '1 recording stands under the names of several speakers' in text
            and ('drawn as one speaker' in text) == joined
        )
    assert shared.clips[0] in (out / 'site' / 'index.html').read_text(encoding='utf-8')


def test_the_recorded_study_is_a_section_of_its_own(reported, site):
    text = BeautifulSoup(
        (site / 'paper' / 'results.html').read_text(encoding='utf-8'), 'html.parser'
    ).main.get_text(' ')
    assert (
        'Recorded study.' in text
        and 'Nothing of your corpora' in text
        and 'HARBOUR' not in text
        and MODEL not in text
    )
    recorded = read_runs(ROOT / 'results').query("test_corpus == 'EMODB' and group == 'main'")
    assert any(f'{uar:.1f} [' in text for uar in recorded.groupby('system').uar.mean())
    names = [
        t.get_text(' ', strip=True)
        for t in BeautifulSoup(
            (site / 'index.html').read_text(encoding='utf-8'), 'html.parser'
        ).select('#quarto-sidebar .sidebar-item-section > .sidebar-item-container')
    ]
    assert [n for n in names if n in ('Your held-out corpora', 'Recorded study')] == [
        'Your held-out corpora',
        'Recorded study',
    ]


def test_site_has_a_page_for_each_held_out_corpus(reported):
    table = read_runs(reported[0] / 'results')
    for name in OWN:
        page = (reported[0] / 'site' / 'held_out' / f'{name}-seed0.html').read_text()
        uar = table[(table.test_corpus == name) & (table.system == MODEL)].uar.iloc[0]
        assert f'UAR <strong>{uar:.1f} %</strong>' in page


def test_again_adds_nothing(reported, asked):
    "The same command once more trains nothing, adds no row and renders nothing."
    out, (home, command) = reported[0], asked
    kept = [
        out / 'results' / 'runs.csv',
        *(out / 'pages').glob('*.ipynb'),
        out / 'site' / 'index.html',
        *out.rglob('summary.csv'),
        *(out / 'results' / f for f in ('counts.csv', 'epochs.csv', 'provenance.jsonl')),
    ]
    before = {f: f.stat().st_mtime_ns for f in kept}
    assert len(before) == 9  # four tables, two pages, the first page; of each run a summary
    clean = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}
    r = subprocess.run(command, cwd=home, env=clean, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert {f: f.stat().st_mtime_ns for f in kept} == before


def test_two_folders_of_one_name_share_nothing(tmp_path):
    a, b, c = (own_folder(tmp_path / 'out', tmp_path / x / 'corpora') for x in 'aba')
    assert a == c == tmp_path / 'out' / 'corpora' and b != a and b.name.startswith('corpora-')
    assert own_folder(tmp_path / 'out', tmp_path / 'synthetic') != own_folder(
        tmp_path / 'out', None
    )


@pytest.mark.parametrize(
    'verb, wrong, said',
    [
        ('report', ['--preset', 'qick'], "Did you mean 'quick'"),
        ('report', ['--task', '5'], 'unknown task'),
        ('report', ['--encoder', 'resemblizer'], "Did you mean 'resemblyzer'"),
        ('report', ['--balance', 'x'], 'unknown balance'),
        ('report', ['--opt', 'adamww'], "Did you mean 'adamw'"),
        ('report', ['--test-corpora', 'SYNTH_D'], 'unknown test corpus'),
        ('report', ['--seeds', 'x'], 'seeds are whole numbers'),
        ('report', ['--augmentation', 'loudd'], "Did you mean 'loud'"),
        ('report', ['--preset', 'quick', '--encoder', 'vggvox'], 'needs a weights file'),
        (
            'report',
            ['--preset', 'quick', '--weights', 'none.pt', '--encoder', 'campplus'],
            'no such file',
        ),
        ('report', ['--device', 'gpu7'], 'device cannot be used'),
        ('experiment', ['--test-corpus', 'SYNTH_D'], 'unknown test corpus'),
        ('study', ['--test-corpora', 'SYNTH_D'], 'unknown test corpus'),
        ('bundle', ['--preset', 'qick'], "Did you mean 'quick'"),
        ('study', ['--device', 'gpu7'], 'device cannot be used'),
        ('study', ['--systems', 'none.yaml'], 'there is no such file'),
        ('rerun', ['any', '--device', 'gpu7'], 'device cannot be used'),
        ('demo', ['--host', '999.9.9.9'], 'cannot be served'),
    ],
)
def test_a_typing_error_is_told_before_anything_is_made(tmp_path, monkeypatch, verb, wrong, said):
    "Not even the synthetic corpora are built."
    monkeypatch.chdir(tmp_path)
    r = CliRunner().invoke(app, [verb, *wrong])
    assert (
        r.exit_code == 1
        and said in ' '.join(r.stderr.split())
        and not (tmp_path / 'output').exists()
    )


@pytest.mark.parametrize(
    'wrong, said',
    [
        (['--task', '9'], 'unknown task'),
        (['--balance', 'x'], 'unknown balance'),
        (['--augmentation', 'loudd'], "Did you mean 'loud'"),
        (['--validation', '1.5'], 'between 0 and 1'),
        (['--train-corpora', 'SYNTH_Z'], 'unknown training corpus'),
        (['--test-corpus', 'x'], 'unknown test corpus'),
    ],
)
def test_a_wrong_split_is_told_before_audio_is_read(tmp_path, monkeypatch, wrong, said):
    monkeypatch.chdir(tmp_path)
    for name in ('SYNTH_A', 'SYNTH_B'):
        (tmp_path / 'datasets' / name).mkdir(parents=True)
        (tmp_path / 'datasets' / name / 'anger_x_1_a.wav').write_bytes(
            b'no sound'
        )  # reading it would be told
    r = CliRunner().invoke(app, ['split', '--test-corpus', 'SYNTH_A', *wrong])
    assert (
        r.exit_code == 1
        and said in ' '.join(r.stderr.split())
        and not (tmp_path / 'output').exists()
    )


def test_every_measuring_verb_writes_below_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    r = CliRunner().invoke(
        app,
        ['cost', '--models', 'cct_2_3x2_32', '--repeats', '1', '--budget-s', '0', '--out', 'mine'],
    )
    assert r.exit_code == 0 and {
        str(f.relative_to(tmp_path)) for f in tmp_path.rglob('*') if f.is_file()
    } <= {'mine/results/cost.csv', 'mine/results/step.csv'}
    options = {
        name: {o for p in command.params for o in p.opts}
        for name, command in get_command(app).commands.items()
    }
    assert all(
        {'--out', '--results'} <= options[v]
        for v in ('report', 'experiment', 'study', 'rerun', 'latency', 'cost', 'bench', 'bundle')
    )


def test_a_preset_finds_its_weights_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, name = load_config('live'), 'campplus_cn_en_common.pt'
    monkeypatch.delenv('SVC_WEIGHTS', raising=False)
    assert weights_path(config.weights) == ROOT / 'weights' / name
    monkeypatch.setenv('SVC_WEIGHTS', str(tmp_path / 'kept'))
    r = CliRunner().invoke(app, ['report', '--preset', 'live'])
    told = ' '.join(r.stderr.split())
    assert (
        r.exit_code == 1
        and str(tmp_path / 'kept' / name) in told
        and 'SVC_WEIGHTS' in told
        and 'make campplus' in told
    )
    (tmp_path / 'kept').mkdir()
    (tmp_path / 'kept' / name).write_bytes(b'one')
    first = config.hash
    monkeypatch.setenv('SVC_WEIGHTS', str(tmp_path / 'moved'))
    shutil.copytree(tmp_path / 'kept', tmp_path / 'moved')
    assert load_config('live').hash == first  # by content, not by place
    (tmp_path / 'moved' / name).write_bytes(b'other')
    assert load_config('live').hash != first


def test_twice_the_same(corpora, tmp_path):
    "The same experiment in two folders gives the same table; and synthetic voices are named as such."
    options = (
        '--corpora',
        corpora,
        '--preset',
        'quick',
        '--epochs',
        2,
        '--warmup-epochs',
        1,
        '--img-size',
        32,
        '--device',
        'cpu',
        '--jobs',
        1,
        '--test-corpus',
        'SYNTH_A',
    )
    pages = [
        Path(
            cli('experiment', '--out', tmp_path / n, *options, cwd=tmp_path)
            .strip()
            .splitlines()[-1]
        )
        for n in ('a', 'b')
    ]
    old, new = (read_runs(tmp_path / n / corpora.name / 'results') for n in ('a', 'b'))
    assert (
        len(old)
        and old.synthetic.all()
        and 'voices on this page are synthetic' in pages[0].read_text()
    )
    pd.testing.assert_frame_equal(old.drop(columns='command'), new.drop(columns='command'))


def test_a_projection_that_saw_the_test_corpus_is_marked(corpora, tmp_path):
    "The reference's way, on request: every output says that it is transductive."
    page = (
        cli(
            'experiment',
            '--test-corpus',
            'SYNTH_A',
            '--corpora',
            corpora,
            '--out',
            tmp_path,
            '--preset',
            'quick',
            '--img-size',
            32,
            '--epochs',
            1,
            '--warmup-epochs',
            0,
            '--fit-on',
            'all',
            '--device',
            'cpu',
            '--jobs',
            1,
        )
        .strip()
        .splitlines()[-1]
    )
    assert (
        read_runs(tmp_path / corpora.name / 'results').set_index('system').setting[MODEL]
        == 'transductive'
    )
    assert (
        yaml.safe_load(next(tmp_path.rglob('performance.yaml')).read_text())['setting']
        == 'transductive'
    )
    assert (
        '**transductive**' in Path(page).read_text()
        and '**inductive**' not in Path(page).read_text()
    )


def test_an_error_in_the_notebook_is_the_commands(corpora, tmp_path):
    build(
        tmp_path / 'one', corpora=('SYNTH_A',), sentences=1, jobs=1
    )  # nothing is left to train on
    shown = cli(
        'experiment',
        '--test-corpus',
        'SYNTH_A',
        '--corpora',
        tmp_path / 'one',
        '--out',
        tmp_path,
        '--jobs',
        1,
        status=1,
    )
    assert 'error: ' in shown and 'SplitError' in shown and 'Traceback' not in shown
    assert not list(tmp_path.rglob('runs.csv')) and list(tmp_path.rglob('*.failed.ipynb'))


def test_errors_are_one_line(tmp_path):
    (tmp_path / 'empty').mkdir()
    for args in (
        ('corpora', tmp_path / 'empty', '--out', tmp_path / 'o'),
        ('train', tmp_path),
        ('eval', tmp_path, '--data-test-path', tmp_path),
    ):
        r = CliRunner().invoke(app, list(map(str, args)))
        assert (
            r.exit_code == 1
            and r.stderr.startswith('error: ')
            and 'Traceback' not in r.output
            and str(tmp_path) in r.stderr
        )
    assert not (tmp_path / 'empty').stat().st_nlink > 2


class Page(HTMLParser):
    "What a page links to, what it loads by itself, which anchors it has, what it says of its pictures, its language, title and heads."

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids, self.pictures, self.heads, self.lang, self.title = (
            [],
            [],
            set(),
            [],
            [],
            None,
            re.search('<title>(.*?)</title>', text, re.S),
        )
        self.feed(text)
        for style in re.findall(r'<style\b[^>]*>(.*?)</style>', text, re.S):
            self.loads += re.findall(r'(?:@import|url\()\s*["\']?([^"\')\s]+)', style)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'):
            self.ids.add(a['id'])
        if tag == 'html':
            self.lang = a.get('lang')
        if tag == 'h1':
            self.heads.append(self.getpos())
        if tag == 'img':
            self.pictures.append((a.get('alt') or '').strip())
        if tag == 'a' and a.get('href'):
            self.links.append(a['href'])
        elif tag == 'link' and a.get('href') and a.get('rel') != 'canonical':
            self.loads.append(a['href'])
        elif tag in ('script', 'img', 'iframe', 'source', 'video', 'audio', 'embed', 'object'):
            self.loads += [a[k] for k in ('src', 'data') if a.get(k)]


@pytest.fixture(scope='module')
def site(reported):
    return reported[0] / 'site'


@pytest.fixture(scope='module')
def pages(site):
    return {p: Page(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}


def test_each_page_is_made(site, pages):
    wanted = {
        'index',
        'recorded',
        *(
            f'paper/{p}'
            for p in (
                'abstract',
                'limits',
                'bibliography',
                'method',
                'corpora',
                'results',
                'comparison',
                'ablation',
                'enrolment',
                'selection',
                'calibration',
                'robustness',
                'learnt',
                'encoders',
                'cost',
                'latency',
                'speed',
                'reference',
                'reliability',
                'compare',
            )
        ),
        *(f'held_out/{c}-seed0' for c in OWN),
        'api',
        *(p.removesuffix('.ipynb') for p in module_pages(NBS).values()),
        *(f'guide/{p.stem}' for p in NBS.glob('guide/*.ipynb')),
        *(source_of(m).removesuffix('.ipynb') for m in module_pages(NBS)),
    }
    assert {p.relative_to(site).with_suffix('').as_posix() for p in pages} == wanted
    for p in pages:
        assert len(p.read_text(encoding='utf-8')) > 3000, f'{p} is nearly empty'


def test_the_sidebar_names_each_page(site, pages):
    home = pages[site / 'index.html']
    linked = {
        (site / unquote(urlsplit(h).path)).resolve() for h in home.links if not urlsplit(h).scheme
    }
    assert (
        set(p.resolve() for p in pages if p.parent.name != 'source') <= linked
    )  # those are named by the pages that they are the source of


def test_each_page_has_a_language_a_title_and_one_head(site, pages):
    for p, page in pages.items():
        assert (
            page.lang == 'en' and page.title and page.title[1].strip() and len(page.heads) == 1
        ), p
    assert len({page.title[1] for page in pages.values()}) == len(pages), 'two pages have one title'


def test_each_picture_is_told_in_words(site, pages):
    said = {
        (p.relative_to(site).as_posix(), alt) for p, page in pages.items() for alt in page.pictures
    }
    assert len(said) == sum(len(page.pictures) for page in pages.values()) > 40, (
        'two pictures of one page are told in the same words'
    )
    poor = [
        s
        for s in said
        if len(s[1]) < 25
        or re.fullmatch(r'(?i)(figure|image|picture|plot|graph)?[\s\d]*(\.png)?', s[1])
    ]
    assert not poor, f'a sentence before the figure says what it shows: {poor}'


def test_figures_and_tables_of_the_study_are_numbered(site):
    seen = 0
    for f in sorted((site / 'paper').glob('*.html')):
        main = BeautifulSoup(f.read_text(encoding='utf-8'), 'html.parser').main
        for kind in ('Figure', 'Table'):
            captions = [t.figcaption.get_text() for t in main.select(f'figure.of-{kind.lower()}')]
            assert [c.split('.')[0] for c in captions] == [
                f'{kind} {i + 1}' for i in range(len(captions))
            ] and all(c.endswith('.') for c in captions), f
            seen += len(captions)
        assert not [t['alt'] for t in main.select('img') if not t.find_parent('figure')], (
            f'{f}: a paragraph that ends with a colon, right before a figure, is its caption'
        )
        assert not [a for a in main.select('a') if a.get_text() in ('Figure', 'Table')], (
            f'{f}: refers to what has no number'
        )
    assert seen > 20


def test_each_public_name_is_listed_with_its_source(site, pages):
    api = pages[site / 'api.html']
    for module in MODULES:
        defined = re.findall(r'^(?:def|class) (\w+)', module.read_text(encoding='utf-8'), re.M)
        name = '.'.join(module.relative_to(ROOT / 'speaker_vgg_cct').with_suffix('').parts)
        for n in set(importlib.import_module(f'speaker_vgg_cct.{name}').__all__) & set(defined):
            assert f'source/{name.replace(".", "-")}.html#{n.lower()}' in api.links, n
    assert 'source/core.html#digest' in pages[site / '00_core.html'].links


def test_works_that_pages_cite_stand_in_the_bibliography(site, pages):
    def cites(page):
        return {
            u.rstrip('/')
            for u in page.links
            if re.match(
                r'https://(doi\.org|arxiv\.org|aclanthology\.org|www\.isca-archive\.org|www\.jstor\.org|www\.jmlr\.org|eur-lex)',
                u,
            )
        }

    cited = set().union(*map(cites, pages.values()))
    assert len(cited) > 30 and cited == cites(pages[site / 'paper' / 'bibliography.html'])


def test_links_and_pictures_resolve(site, pages):
    broken = []
    for p, page in pages.items():
        for href in page.links + page.loads:
            u = urlsplit(href)
            if u.scheme in ('http', 'https', 'mailto', 'data', 'javascript'):
                continue
            target = (p.parent / unquote(u.path)).resolve() if u.path else p
            if target.is_dir():
                target = target / 'index.html'
            if (
                not target.exists()
                or u.fragment
                and target in pages
                and unquote(u.fragment) not in pages[target].ids
            ):
                broken.append((p.name, href))
    assert not broken


def test_nothing_is_loaded_from_the_network(site, pages):
    def remote(u):
        return re.match(r'(https?:)?//', u)

    assert not [(p.name, u) for p, page in pages.items() for u in page.loads if remote(u)]
    for css in site.rglob('*.css'):
        assert not [
            u
            for u in re.findall(
                r'(?:@import|url\()\s*["\']?([^"\')\s]+)', css.read_text(encoding='utf-8')
            )
            if remote(u)
        ], css


def test_numbers_come_from_the_given_results(tmp_path):
    "A made-up row on real speech stands on the pages of a study that has it."
    row = pd.read_csv(ROOT / 'results' / 'runs.csv', dtype=str, keep_default_na=False).iloc[[0]]
    (tmp_path / 'results').mkdir()
    row.assign(
        system='made_up',
        group='main',
        uar='47.9123',
        uar_low='42.9',
        uar_high='52.9',
        commit='none',
        command='made up',
    ).to_csv(tmp_path / 'results' / 'runs.csv', index=False)
    run_pages(
        {
            NBS / 'paper' / 'results.ipynb': tmp_path / 'results.ipynb',
            NBS / 'index.ipynb': tmp_path / 'index.ipynb',
        },
        [tmp_path / 'results'],
    )
    for page in ('results', 'index'):
        assert re.search(
            r'made_up [^\n]*47\.9 \[43, 53\]',
            (tmp_path / f'{page}.ipynb').read_text(encoding='utf-8'),
        )


def test_a_held_out_page_shows_what_was_run_and_no_parameters(tmp_path):
    "A checkout of two pages, and a stand-in for an executed experiment."
    nbs, md = tmp_path / 'checkout' / 'nbs', nbformat.v4.new_markdown_cell

    def write(path, *cells):
        return (
            path.parent.mkdir(parents=True, exist_ok=True),
            nbformat.write(
                nbformat.v4.new_notebook(
                    cells=list(cells),
                    metadata={
                        'kernelspec': {
                            'name': 'python3',
                            'display_name': 'python3',
                            'language': 'python',
                        }
                    },
                ),
                path,
            ),
        )

    write(nbs / 'index.ipynb', md('# Home\n\n> A stand-in.'))
    write(nbs / 'paper' / 'method.ipynb', md('# Method\n\n> A stand-in.'))
    for f in ('nbs/sidebar.yml', 'nbs/_quarto.yml', 'nbs/site.js', 'settings.ini', '_quarto.yml'):
        shutil.copy(ROOT / f, nbs.parent / f)
    write(
        tmp_path / 'page.ipynb',
        md('# Held out: SYNTH_A\n\n> A stand-in.'),
        nbformat.v4.new_code_cell(
            'out = "/home/somebody"', metadata={'tags': ['injected-parameters']}
        ),
        nbformat.v4.new_code_cell(
            '#| echo: false\nshow()',
            outputs=[
                nbformat.v4.new_output(
                    'display_data',
                    {
                        'text/markdown': 'recalled **73.1**, as [the method](../paper/method.ipynb) says'
                    },
                )
            ],
        ),
    )
    site = build_site(
        tmp_path / 'site', {'SYNTH_A': tmp_path / 'page.ipynb'}, None, nbs.parent, tmp_path / 'work'
    )
    held_out = (site / 'held_out' / 'SYNTH_A.html').read_text(encoding='utf-8')
    assert (
        '73.1' in held_out
        and '/home/somebody' not in held_out
        and 'href="../paper/method.html"' in held_out
        and (site / 'paper' / 'method.html').exists()
    )


def test_names_are_linked_to_where_they_are_explained(site):
    assert 'href="../00_core.html#configerror"' in (site / 'website' / '10_report.html').read_text(
        encoding='utf-8'
    )


@pytest.fixture(scope='module')
def served(site):
    "The site on a port of this machine."

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


@pytest.fixture(scope='module')
def chromium():
    api = pytest.importorskip(
        'playwright.sync_api', reason='playwright is not installed: pip install playwright'
    )
    if CHROMIUM is None:
        pytest.skip('there is no Chromium')
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


PHONE, DESK = {'width': 390, 'height': 844}, {'width': 1200, 'height': 900}


WAYS = pytest.mark.parametrize(
    'scheme, size',
    [('light', DESK), ('dark', DESK), ('light', PHONE)],
    ids=['light', 'dark', 'phone'],
)
KINDS = (
    'index',
    'api',
    'paper/method',
    'paper/results',
    'features/00_spectrogram',
    'evaluation/10_statistics',
    'source/core',
)  # a page of each kind


def usable(chromium, address, site, pages, scheme, size):
    "No serious violation of axe-core's rules, no error of a script, nothing that makes the whole page scroll sideways."
    axe = pytest.importorskip(
        'axe_playwright_python.sync_playwright',
        reason='axe is not installed: pip install axe-playwright-python',
    ).Axe()
    tab = chromium.new_context(color_scheme=scheme, viewport=size).new_page()
    faults = []
    tab.on('pageerror', lambda e: faults.append((tab.url, str(e))))
    for p in pages:
        tab.goto(address + p.relative_to(site).as_posix(), timeout=LONG)
        if tab.evaluate(
            'document.documentElement.scrollWidth > document.documentElement.clientWidth'
        ):
            faults.append((p.name, 'scrolls sideways'))
        found = axe.run(tab, options={'resultTypes': ['violations'], 'preload': False}).response[
            'violations'
        ]
        faults += [
            (p.name, v['id'], v['nodes'][0]['html'][:200])
            for v in found
            if v['impact'] in ('serious', 'critical')
        ]
    tab.context.close()
    assert pages and not faults


def test_everybody_can_use_pages_of_each_kind(chromium, served, site, pages):
    "In the dark; the other ways, and all pages, are slow."
    usable(chromium, served, site, [site / f'{k}.html' for k in KINDS], 'dark', DESK)


@pytest.mark.slow
@WAYS
def test_everybody_can_use_each_page(chromium, served, site, pages, scheme, size):
    usable(chromium, served, site, [p for p in pages if p.parent.name != 'source'], scheme, size)


def test_tables_sort_by_their_heads(chromium, served):
    tab = chromium.new_page()
    tab.set_default_timeout(LONG)
    tab.goto(served + 'index.html')
    table = tab.locator('main table', has=tab.locator('th', has_text='HARBOUR')).first
    head = table.locator('th', has_text='HARBOUR')

    def column():
        return table.locator(
            f'tbody td:nth-child({1 + head.evaluate("h => h.cellIndex")})'
        ).all_inner_texts()

    told = column()
    known = [float(c.split()[0]) for c in told if c != '–']
    assert len(known) > 1 and head.get_attribute('aria-sort') == 'none'
    head.locator('button').focus()
    tab.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'ascending' and [
        float(c.split()[0]) for c in column() if c != '–'
    ] == sorted(known)
    assert column()[len(known) :] == ['–'] * (
        len(told) - len(known)
    )  # what is not known is last, up and down
    tab.keyboard.press('Space')
    assert head.get_attribute('aria-sort') == 'descending' and [
        float(c.split()[0]) for c in column() if c != '–'
    ] == sorted(known, reverse=True)
    assert column()[len(known) :] == ['–'] * (len(told) - len(known))
    tab.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'none' and column() == told
    tab.close()


@pytest.mark.parametrize('way', ['served', 'file'])
def test_search_finds_without_a_network(chromium, served, site, way):
    tab = chromium.new_page()
    tab.set_default_timeout(LONG)
    tab.goto((served if way == 'served' else site.as_uri() + '/') + 'paper/method.html')
    tab.get_by_role('button', name='Search').click()
    tab.keyboard.type('temperature')
    tab.locator('.search-result', has_text='temperature').first.click()
    tab.wait_for_url('**/*calibration.html*')
    tab.close()


def test_readme_is_the_home_page():
    assert (ROOT / 'README.md').read_text(encoding='utf-8') == readme_text(NBS / 'index.ipynb'), (
        'README.md is not what nbs/index.ipynb gives: run `make readme`'
    )
    for href in re.findall(
        r'\]\((?!\w+:|#)([^)]+)\)', (ROOT / 'README.md').read_text(encoding='utf-8')
    ):
        assert (ROOT / href).exists(), href


def test_home_page_shows_the_results_that_are_committed(tmp_path):
    nb = nbformat.read(NBS / 'index.ipynb', as_version=4)
    NotebookClient(
        nb, kernel_name='python3', startup_timeout=600, resources={'metadata': {'path': str(NBS)}}
    ).execute()
    nbformat.write(nb, tmp_path / 'index.ipynb')
    assert readme_text(tmp_path / 'index.ipynb') == readme_text(NBS / 'index.ipynb'), (
        'the results have changed: run `make readme`'
    )


def test_the_page_on_the_reference_names_options_that_exist():
    verbs = get_command(app).commands
    options = {
        name: {o for p in c.params for o in (*p.opts, *p.secondary_opts)}
        for name, c in verbs.items()
    }
    options = {
        name: own | {o for other in verbs[name].other_names().values() for o in other}
        for name, own in options.items()
    }
    text = '\n'.join(
        c.source for c in nbformat.read(NBS / 'paper' / 'reference.ipynb', as_version=4).cells
    )
    checked = 0
    for section in re.split(r'^## ', text, flags=re.M)[1:]:
        head, _, body = section.partition('\n')
        verb = re.search(r'`speaker-vgg-cct (\w+)`', head)
        for said, option in re.findall(r'`(?:(\w+) )?(--[\w-]+|-\w)(?: \w+)?`', body):
            if not verb:
                continue
            assert option in options[said or verb[1]], f'{said or verb[1]} has no option {option}'
            checked += 1
    assert checked > 60


def test_the_configuration_of_both_renderers_is_one():
    shim = yaml.safe_load((NBS / '_quarto.yml').read_text())
    assert shim == {
        'project': {'type': 'website'},
        'metadata-files': ['../_quarto.yml', 'sidebar.yml'],
    }
