"The whole path as a user walks it, corpora, verbs, an experiment, a site, and twice the same; then that site, read and in a browser, and the README: each page is made, each link and picture resolves, nothing comes from the network, everybody can use it, and the text says what the program does."
import importlib
import json
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

from speaker_vgg_cct.baselines import BASELINES, baseline_setting
from speaker_vgg_cct.cli import app
from speaker_vgg_cct.report import build_site, readme_text
from speaker_vgg_cct.synth import build

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
MODULES = [m for m in sorted((ROOT/'speaker_vgg_cct').glob('[a-z]*.py'))]
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
MODEL = 'speaker_vgg_cct_end_to_end_2_7x2_112' # of the preset `quick`
LONG = 600_000 # ms; a busy machine may need so long for what takes seconds on a free one


def cli(*args, status=0, cwd=ROOT):
    code = 'from speaker_vgg_cct.cli import app; app()'
    r = subprocess.run([sys.executable, '-c', code, *map(str, args)], cwd=cwd, capture_output=True, text=True)
    assert r.returncode == status, f'{args}\n{r.stdout}\n{r.stderr}'
    return r.stdout if status == 0 else r.stderr


def checkout(): return {p: p.read_bytes() for p in [ROOT/'README.md', NBS/'sidebar.yml', *NBS.rglob('*.ipynb'), *(ROOT/'results').rglob('*.*')] if p.is_file() and '.ipynb_checkpoints' not in p.parts}


def add_made_up_row(results):
    "A row on real speech, beside those of the study that is committed, so that it stands in their table."
    row = pd.read_csv(ROOT/'results'/'runs.csv', dtype=str, keep_default_na=False).iloc[[0]]
    results.mkdir(parents=True)
    row.assign(system='made_up', group='baseline', uar='47.9123', uar_low='42.9', uar_high='52.9', commit='none', command='made up').to_csv(results/'runs.csv', index=False)


def of_this_run(results):
    table = pd.read_csv(results/'runs.csv')
    return table[table.system != 'made_up'].reset_index(drop=True)


@pytest.fixture(scope='module')
def corpora(tmp_path_factory):
    return build(tmp_path_factory.mktemp('corpora')/'small', sentences=2)


@pytest.fixture(scope='module')
def reported(corpora, tmp_path_factory):
    "One `report` on small corpora, two of them held out, into a results folder in which a row on real speech stands already."
    out = tmp_path_factory.mktemp('out')
    add_made_up_row(out/'results'); before = checkout()
    shown = cli('report', '--corpora', corpora, '--out', out, '--results', out/'results', '--preset', 'quick', '--epochs', 2, '--warmup-epochs', 1,
                '--test-corpora', 'SYNTH_A,SYNTH_B', '--site', out/'site', '--device', 'cpu', '--jobs', 1)
    assert checkout() == before, '`report` changed the notebooks or results of the checkout'
    return out, shown


def test_results_table(reported):
    out, _ = reported
    table = of_this_run(out/'results')
    assert sorted(set(table.test_corpus)) == ['SYNTH_A', 'SYNTH_B'] and len(table) == 2*table.system.nunique()
    assert {'chance', 'majority', 'speaker embedding + SVM', MODEL} <= set(table.system) <= {'chance', 'majority', *BASELINES, MODEL}
    assert {s: set(t.setting) for s, t in table.groupby('system')} == {s: {baseline_setting(s) if s in BASELINES else 'inductive'} for s in table.system} and table.synthetic.all()
    run = table[table.uar_low.notna()]
    assert ((run.uar_low <= run.uar) & (run.uar <= run.uar_high)).all()
    for _, row in run.iterrows():
        recalls = row[[c for c in table if c.startswith('recall_')]]
        assert recalls.mean() == pytest.approx(row.uar, abs=1e-3)


def test_run_folder_agrees_with_the_table(reported):
    out, _ = reported
    table = of_this_run(out/'results')
    folders = [f.parent for f in out.rglob('performance.yaml')]
    assert len(folders) == 2
    for folder in folders:
        made, scored = json.loads((folder/'provenance.json').read_text()), yaml.safe_load((folder/'performance.yaml').read_text())
        row = table[(table.split_hash == made['split_hash']) & (table.config_hash == made['config_hash'])].iloc[0]
        assert row.uar == scored['uar'] and row.test_corpus == made['split']['test_corpus']
        assert {'args.yaml', 'summary.csv', 'model_best.safetensors', 'predictions.csv', 'conf_matrix.png', 'graphs'} <= {f.name for f in folder.iterdir()}
        guessed = pd.read_csv(folder/'predictions.csv')
        assert set(guessed.corpus) == {row.test_corpus} and (guessed.truth == guessed.prediction).mean()*100 == pytest.approx(scored['accuracy'], abs=1e-3)


def test_site_has_a_page_for_each_held_out_corpus(reported):
    out, shown = reported
    assert str(out/'site'/'index.html') in shown
    table = of_this_run(out/'results')
    for name in ('SYNTH_A', 'SYNTH_B'):
        page = (out/'site'/'held_out'/f'{name}-seed0.html').read_text()
        uar = table[(table.test_corpus == name) & (table.system == MODEL)].uar.iloc[0]
        assert f'UAR <strong>{uar:.1f} %</strong>' in page and 'synthetic' in page.lower()


def test_again_gives_the_same_and_adds_nothing(reported, corpora, tmp_path):
    "The same command in another folder gives the same table; in the same folder it trains nothing and adds no row."
    out, _ = reported
    before, page = (out/'results'/'runs.csv').read_text(), out/corpora.name/'pages'/'SYNTH_A-seed0.ipynb'
    stamp = page.stat().st_mtime_ns
    options = ('--corpora', corpora, '--preset', 'quick', '--epochs', 2, '--warmup-epochs', 1, '--device', 'cpu', '--jobs', 1, '--test-corpus', 'SYNTH_A')
    cli('experiment', '--out', out, '--results', out/'results', *options)
    assert (out/'results'/'runs.csv').read_text() == before and page.stat().st_mtime_ns == stamp
    cli('experiment', '--out', tmp_path, '--results', tmp_path/'results', *options)
    old, new = of_this_run(out/'results'), of_this_run(tmp_path/'results')
    old = old[old.test_corpus == 'SYNTH_A'].reset_index(drop=True).drop(columns='command')
    pd.testing.assert_frame_equal(old, new.drop(columns='command'))


def test_a_projection_that_saw_the_test_corpus_is_marked(reported, corpora, tmp_path):
    "The reference's way, on request: every output says that it is transductive."
    shutil.copytree(reported[0]/corpora.name/'features', tmp_path/corpora.name/'features') # computed once
    page = cli('experiment', '--test-corpus', 'SYNTH_A', '--corpora', corpora, '--out', tmp_path, '--results', tmp_path/'results', '--preset', 'quick',
               '--epochs', 1, '--warmup-epochs', 0, '--fit-on', 'all', '--device', 'cpu', '--jobs', 1).strip().splitlines()[-1]
    assert of_this_run(tmp_path/'results').set_index('system').setting[MODEL] == 'transductive'
    assert yaml.safe_load(next(tmp_path.rglob('performance.yaml')).read_text())['setting'] == 'transductive'
    assert '**transductive**' in Path(page).read_text() and '**inductive**' not in Path(page).read_text()


def test_an_error_in_the_notebook_is_the_commands(corpora, tmp_path):
    shown = cli('experiment', '--test-corpus', 'SYNTH_D', '--corpora', corpora, '--out', tmp_path, '--results', tmp_path/'results', status=1)
    assert 'error: ' in shown and 'SplitError: unknown test corpus' in shown and 'Traceback' not in shown
    assert not (tmp_path/'results'/'runs.csv').exists() and list(tmp_path.rglob('*.failed.ipynb'))


def test_errors_are_one_line(tmp_path):
    (tmp_path/'empty').mkdir()
    for args in (('corpora', tmp_path/'empty', '--out', tmp_path/'o'), ('train', tmp_path), ('eval', tmp_path, '--data-test-path', tmp_path)):
        r = CliRunner().invoke(app, list(map(str, args)))
        assert r.exit_code == 1 and r.stderr.startswith('error: ') and 'Traceback' not in r.output and str(tmp_path) in r.stderr
    assert not (tmp_path/'empty').stat().st_nlink > 2


class Page(HTMLParser):
    "What a page links to, what it loads by itself, which anchors it has, what it says of its pictures, its language, title and heads."
    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids, self.pictures, self.heads, self.lang, self.title = [], [], set(), [], [], None, re.search('<title>(.*?)</title>', text, re.S)
        self.feed(text)
        for style in re.findall(r'<style\b[^>]*>(.*?)</style>', text, re.S): self.loads += re.findall(r'(?:@import|url\()\s*["\']?([^"\')\s]+)', style)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'): self.ids.add(a['id'])
        if tag == 'html': self.lang = a.get('lang')
        if tag == 'h1': self.heads.append(self.getpos())
        if tag == 'img': self.pictures.append((a.get('alt') or '').strip())
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        elif tag == 'link' and a.get('href') and a.get('rel') != 'canonical': self.loads.append(a['href'])
        elif tag in ('script', 'img', 'iframe', 'source', 'video', 'audio', 'embed', 'object'): self.loads += [a[k] for k in ('src', 'data') if a.get(k)]


@pytest.fixture(scope='module')
def site(reported): return reported[0]/'site'


@pytest.fixture(scope='module')
def pages(site): return {p: Page(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}


def test_each_page_is_made(site, pages):
    wanted = {'index', *(f'paper/{p}' for p in ('abstract', 'limits', 'bibliography', 'method', 'corpora', 'results', 'comparison', 'ablation', 'enrolment', 'selection', 'calibration', 'robustness', 'learnt', 'encoders', 'cost', 'latency', 'speed', 'reference', 'reliability', 'compare')), 'held_out/SYNTH_A-seed0', 'held_out/SYNTH_B-seed0', 'api', *(p.stem for p in NBS.glob('[0-9]*.ipynb')), *(f'guide/{p.stem}' for p in NBS.glob('guide/*.ipynb')), *(f'source/{m.stem}' for m in MODULES)}
    assert {p.relative_to(site).with_suffix('').as_posix() for p in pages} == wanted
    for p in pages: assert len(p.read_text(encoding='utf-8')) > 3000, f'{p} is nearly empty'


def test_the_sidebar_names_each_page(site, pages):
    home = pages[site/'index.html']
    linked = {(site/unquote(urlsplit(h).path)).resolve() for h in home.links if not urlsplit(h).scheme}
    assert set(p.resolve() for p in pages if p.parent.name != 'source') <= linked # those are named by the pages that they are the source of


def test_each_page_has_a_language_a_title_and_one_head(site, pages):
    for p, page in pages.items(): assert page.lang == 'en' and page.title and page.title[1].strip() and len(page.heads) == 1, p
    assert len({page.title[1] for page in pages.values()}) == len(pages), 'two pages have one title'


def test_each_picture_is_told_in_words(site, pages):
    said = {(p.relative_to(site).as_posix(), alt) for p, page in pages.items() for alt in page.pictures}
    assert len(said) == sum(len(page.pictures) for page in pages.values()) > 40, 'two pictures of one page are told in the same words'
    poor = [s for s in said if len(s[1]) < 25 or re.fullmatch(r'(?i)(figure|image|picture|plot|graph)?[\s\d]*(\.png)?', s[1])]
    assert not poor, f'a sentence before the figure says what it shows: {poor}'


def test_figures_and_tables_of_the_study_are_numbered(site):
    seen = 0
    for f in sorted((site/'paper').glob('*.html')):
        main = BeautifulSoup(f.read_text(encoding='utf-8'), 'html.parser').main
        for kind in ('Figure', 'Table'):
            captions = [t.figcaption.get_text() for t in main.select(f'figure.of-{kind.lower()}')]
            assert [c.split('.')[0] for c in captions] == [f'{kind} {i + 1}' for i in range(len(captions))] and all(c.endswith('.') for c in captions), f
            seen += len(captions)
        assert not [t['alt'] for t in main.select('img') if not t.find_parent('figure')], f'{f}: a paragraph that ends with a colon, right before a figure, is its caption'
        assert not [a for a in main.select('a') if a.get_text() in ('Figure', 'Table')], f'{f}: refers to what has no number'
    assert seen > 20


def test_each_public_name_is_listed_with_its_source(site, pages):
    api = pages[site/'api.html']
    for module in MODULES:
        defined = re.findall(r'^(?:def|class) (\w+)', module.read_text(encoding='utf-8'), re.M)
        for n in set(importlib.import_module(f'speaker_vgg_cct.{module.stem}').__all__) & set(defined):
            assert f'source/{module.stem}.html#{n.lower()}' in api.links, n
    assert 'source/core.html#digest' in pages[site/'00_core.html'].links


def test_works_that_pages_cite_stand_in_the_bibliography(site, pages):
    cites = lambda page: {u.rstrip('/') for u in page.links if re.match(r'https://(doi\.org|arxiv\.org|aclanthology\.org|www\.isca-archive\.org|www\.jstor\.org|www\.jmlr\.org|eur-lex)', u)}
    cited = set().union(*map(cites, pages.values()))
    assert len(cited) > 30 and cited == cites(pages[site/'paper'/'bibliography.html'])


def test_links_and_pictures_resolve(site, pages):
    broken = []
    for p, page in pages.items():
        for href in page.links + page.loads:
            u = urlsplit(href)
            if u.scheme in ('http', 'https', 'mailto', 'data', 'javascript'): continue
            target = (p.parent/unquote(u.path)).resolve() if u.path else p
            if target.is_dir(): target = target/'index.html'
            if not target.exists(): broken.append((p.name, href))
            elif u.fragment and target in pages and unquote(u.fragment) not in pages[target].ids: broken.append((p.name, href))
    assert not broken


def test_nothing_is_loaded_from_the_network(site, pages):
    remote = lambda u: re.match(r'(https?:)?//', u)
    assert not [(p.name, u) for p, page in pages.items() for u in page.loads if remote(u)]
    for css in site.rglob('*.css'):
        assert not [u for u in re.findall(r'(?:@import|url\()\s*["\']?([^"\')\s]+)', css.read_text(encoding='utf-8')) if remote(u)], css


def test_numbers_come_from_the_given_results(reported, site):
    text = (site/'paper'/'results.html').read_text(encoding='utf-8')
    real, _, synthetic = text.partition(' id="synthetic-voices-') # the first heading
    assert 'they say nothing about people' in synthetic
    for uar in of_this_run(reported[0]/'results').uar: assert f'{uar:.1f}' in synthetic
    for page in (real, (site/'index.html').read_text(encoding='utf-8')):
        row = re.search(r'<tr\b[^>]*>(?:(?!</tr>).)*made_up.*?</tr>', page, re.S)
        assert row and '47.9 [43, 53]' in row[0], 'the given row does not stand in a table on real speech'


def test_a_held_out_page_shows_what_was_run_and_no_parameters(tmp_path):
    "A checkout of two pages, and a stand-in for an executed experiment."
    nbs, md = tmp_path/'checkout'/'nbs', nbformat.v4.new_markdown_cell
    write = lambda path, *cells: (path.parent.mkdir(parents=True, exist_ok=True), nbformat.write(nbformat.v4.new_notebook(cells=list(cells), metadata={
        'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}), path))
    write(nbs/'index.ipynb', md('# Home\n\n> A stand-in.')); write(nbs/'paper'/'method.ipynb', md('# Method\n\n> A stand-in.'))
    for f in ('nbs/sidebar.yml', 'nbs/_quarto.yml', 'nbs/site.js', 'settings.ini', '_quarto.yml'): shutil.copy(ROOT/f, nbs.parent/f)
    write(tmp_path/'page.ipynb', md('# Held out: SYNTH_A\n\n> A stand-in.'), nbformat.v4.new_code_cell('out = "/home/somebody"', metadata={'tags': ['injected-parameters']}),
          nbformat.v4.new_code_cell('#| echo: false\nshow()', outputs=[nbformat.v4.new_output('display_data', {'text/markdown': 'recalled **73.1**, as [the method](../paper/method.ipynb) says'})]))
    site = build_site(tmp_path/'site', {'SYNTH_A': tmp_path/'page.ipynb'}, [], nbs.parent, tmp_path/'work')
    held_out = (site/'held_out'/'SYNTH_A.html').read_text(encoding='utf-8')
    assert '73.1' in held_out and '/home/somebody' not in held_out and 'href="../paper/method.html"' in held_out and (site/'paper'/'method.html').exists()


def test_names_are_linked_to_where_they_are_explained(site):
    assert 'href="00_core.html#configerror"' in (site/'80_report.html').read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def served(site):
    "The site on a port of this machine."
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


@pytest.fixture(scope='module')
def chromium():
    api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install playwright')
    if CHROMIUM is None: pytest.skip('there is no Chromium')
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()


PHONE, DESK = {'width': 390, 'height': 844}, {'width': 1200, 'height': 900}


WAYS = pytest.mark.parametrize('scheme, size', [('light', DESK), ('dark', DESK), ('light', PHONE)], ids=['light', 'dark', 'phone'])
KINDS = 'index', 'api', 'paper/method', 'paper/results', '20_spectrogram', '63_compare', 'source/core' # a page of each kind


def usable(chromium, address, site, pages, scheme, size):
    "No serious violation of axe-core's rules, no error of a script, nothing that makes the whole page scroll sideways."
    axe = pytest.importorskip('axe_playwright_python.sync_playwright', reason='axe is not installed: pip install axe-playwright-python').Axe()
    tab = chromium.new_context(color_scheme=scheme, viewport=size).new_page(); faults = []
    tab.on('pageerror', lambda e: faults.append((tab.url, str(e))))
    for p in pages:
        tab.goto(address + p.relative_to(site).as_posix(), timeout=LONG)
        if tab.evaluate('document.documentElement.scrollWidth > document.documentElement.clientWidth'): faults.append((p.name, 'scrolls sideways'))
        found = axe.run(tab, options={'resultTypes': ['violations'], 'preload': False}).response['violations']
        faults += [(p.name, v['id'], v['nodes'][0]['html'][:200]) for v in found if v['impact'] in ('serious', 'critical')]
    tab.context.close()
    assert pages and not faults


def test_everybody_can_use_pages_of_each_kind(chromium, served, site, pages):
    "In the dark; the other ways, and all pages, are slow."
    usable(chromium, served, site, [site/f'{k}.html' for k in KINDS], 'dark', DESK)


@pytest.mark.slow
@WAYS
def test_everybody_can_use_each_page(chromium, served, site, pages, scheme, size):
    usable(chromium, served, site, [p for p in pages if p.parent.name != 'source'], scheme, size)


def test_tables_sort_by_their_heads(chromium, served):
    tab = chromium.new_page(); tab.set_default_timeout(LONG); tab.goto(served + 'paper/results.html')
    table = tab.locator('main table', has=tab.locator('th', has_text='SYNTH_A')).first; head = table.locator('th', has_text='SYNTH_A')
    column = lambda: table.locator(f'tbody td:nth-child({1 + head.evaluate("h => h.cellIndex")})').all_inner_texts()
    told = column(); known = [float(c.split()[0]) for c in told if c != '–']
    assert len(known) > 1 and head.get_attribute('aria-sort') == 'none'
    head.locator('button').focus(); tab.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'ascending' and [float(c.split()[0]) for c in column() if c != '–'] == sorted(known)
    assert column()[len(known):] == ['–']*(len(told) - len(known)) # what is not known is last, up and down
    tab.keyboard.press('Space')
    assert head.get_attribute('aria-sort') == 'descending' and [float(c.split()[0]) for c in column() if c != '–'] == sorted(known, reverse=True)
    assert column()[len(known):] == ['–']*(len(told) - len(known))
    tab.keyboard.press('Enter'); assert head.get_attribute('aria-sort') == 'none' and column() == told
    tab.close()


@pytest.mark.parametrize('way', ['served', 'file'])
def test_search_finds_without_a_network(chromium, served, site, way):
    tab = chromium.new_page(); tab.set_default_timeout(LONG); tab.goto((served if way == 'served' else site.as_uri() + '/') + 'paper/method.html')
    tab.get_by_role('button', name='Search').click(); tab.keyboard.type('temperature')
    tab.locator('.search-result', has_text='temperature').first.click(); tab.wait_for_url('**/*calibration.html*')
    tab.close()


def test_readme_is_the_home_page():
    assert (ROOT/'README.md').read_text(encoding='utf-8') == readme_text(NBS/'index.ipynb'), 'README.md is not what nbs/index.ipynb gives: run `make readme`'
    for href in re.findall(r'\]\((?!\w+:|#)([^)]+)\)', (ROOT/'README.md').read_text(encoding='utf-8')):
        assert (ROOT/href).exists(), href


def test_home_page_shows_the_results_that_are_committed(tmp_path):
    nb = nbformat.read(NBS/'index.ipynb', as_version=4)
    NotebookClient(nb, kernel_name='python3', startup_timeout=600, resources={'metadata': {'path': str(NBS)}}).execute()
    nbformat.write(nb, tmp_path/'index.ipynb')
    assert readme_text(tmp_path/'index.ipynb') == readme_text(NBS/'index.ipynb'), 'the results have changed: run `make readme`'


def test_the_page_on_the_reference_names_options_that_exist():
    verbs = get_command(app).commands
    options = {name: {o for p in c.params for o in (*p.opts, *p.secondary_opts)} for name, c in verbs.items()}
    text = '\n'.join(c.source for c in nbformat.read(NBS/'paper'/'reference.ipynb', as_version=4).cells)
    checked = 0
    for section in re.split(r'^## ', text, flags=re.M)[1:]:
        head, _, body = section.partition('\n')
        verb = re.search(r'`speaker-vgg-cct (\w+)`', head)
        for said, option in re.findall(r'`(?:(\w+) )?(--[\w-]+|-\w)(?: \w+)?`', body):
            if not verb: continue
            assert option in options[said or verb[1]], f'{said or verb[1]} has no option {option}'
            checked += 1
    assert checked > 60


def test_the_configuration_of_both_renderers_is_one():
    shim = yaml.safe_load((NBS/'_quarto.yml').read_text())
    assert shim == {'project': {'type': 'website'}, 'metadata-files': ['../_quarto.yml', 'sidebar.yml']}
