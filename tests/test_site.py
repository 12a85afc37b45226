"The site and the README: each page is made, each link and picture resolves, nothing comes from the network, and the text says what the program does."
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest
import yaml
from nbclient import NotebookClient

from speaker_vgg_cct.report import build_site, readme_text
from speaker_vgg_cct.results import COLUMNS

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'


def shown(): return {p: p.read_bytes() for p in [NBS/'index.ipynb', NBS/'sidebar.yml', *NBS.glob('paper/*.ipynb')]}


def made_up_run(corpus, uar, synthetic):
    row = dict.fromkeys(COLUMNS, '') | dict(test_corpus=corpus, train_corpora='OTHER', task='4', system='made_up', setting='inductive', seed=0, n=10, speakers=2,
                                            synthetic=synthetic, label_hash='h', split_hash='s', config_hash='c', command='made up')
    return row | dict(uar=uar, uar_low=uar - 5, uar_high=uar + 5, accuracy=uar, macro_f1=uar) | {f'recall_{c}': uar for c in ('anger', 'happy', 'neutral', 'sad')}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The whole site, on made-up results and a stand-in for an executed experiment."
    tmp = tmp_path_factory.mktemp('site')
    (tmp/'results').mkdir()
    pd.DataFrame([made_up_run('SYNTH_A', 61.3, True), made_up_run('REAL', 47.9, False)]).to_csv(tmp/'results'/'runs.csv', index=False)
    page = nbformat.v4.new_notebook(metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}, cells=[
        nbformat.v4.new_markdown_cell('# Held out: SYNTH_A\n\n> A stand-in.'),
        nbformat.v4.new_code_cell('out = "/home/somebody"', metadata={'tags': ['injected-parameters']}),
        nbformat.v4.new_code_cell('#| echo: false\nshow()', outputs=[nbformat.v4.new_output('display_data', {'text/markdown': 'recalled **73.1**, as [the method](../paper/method.ipynb) says'})])])
    nbformat.write(page, tmp/'page.ipynb')
    before = shown()
    home = build_site(tmp/'docs', {'SYNTH_A': tmp/'page.ipynb'}, [tmp/'results'], ROOT, tmp/'work')
    assert shown() == before, 'building the site changed the notebooks'
    return home


class Page(HTMLParser):
    "What a page links to, what it loads by itself, and which anchors it has."
    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(text)
        for style in re.findall(r'<style\b[^>]*>(.*?)</style>', text, re.S): self.loads += re.findall(r'(?:@import|url\()\s*["\']?([^"\')\s]+)', style)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'): self.ids.add(a['id'])
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        elif tag == 'link' and a.get('href') and a.get('rel') != 'canonical': self.loads.append(a['href'])
        elif tag in ('script', 'img', 'iframe', 'source', 'video', 'audio', 'embed', 'object'): self.loads += [a[k] for k in ('src', 'data') if a.get(k)]


@pytest.fixture(scope='module')
def pages(site): return {p: Page(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}


def test_each_page_is_made(site, pages):
    wanted = {'index', *(f'paper/{p}' for p in ('method', 'corpora', 'results', 'comparison', 'ablation', 'enrolment', 'selection', 'calibration', 'learnt', 'encoders', 'cost', 'latency', 'speed', 'reference', 'reliability')), 'held_out/SYNTH_A', *(p.stem for p in NBS.glob('[0-9]*.ipynb'))}
    assert {p.relative_to(site).with_suffix('').as_posix() for p in pages} == wanted
    for p in pages: assert len(p.read_text(encoding='utf-8')) > 3000, f'{p} is nearly empty'


def test_the_sidebar_names_each_page(site, pages):
    home = pages[site/'index.html']
    linked = {(site/unquote(urlsplit(h).path)).resolve() for h in home.links if not urlsplit(h).scheme}
    assert set(p.resolve() for p in pages) <= linked


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


def test_numbers_come_from_the_given_results(site):
    text = (site/'paper'/'results.html').read_text(encoding='utf-8')
    assert '61.3' in text and '47.9' in text and 'Synthetic voices' in text and 'they say nothing about people' in text
    assert '47.9' in (site/'index.html').read_text(encoding='utf-8')
    held_out = (site/'held_out'/'SYNTH_A.html').read_text(encoding='utf-8')
    assert '73.1' in held_out and '/home/somebody' not in held_out and 'href="../paper/method.html"' in held_out


def test_names_are_linked_to_where_they_are_explained(site):
    assert 'href="00_core.html#configerror"' in (site/'80_report.html').read_text(encoding='utf-8')


def test_readme_is_the_home_page():
    assert (ROOT/'README.md').read_text(encoding='utf-8') == readme_text(NBS/'index.ipynb'), 'README.md is not what nbs/index.ipynb gives: run `make readme`'
    for href in re.findall(r'\]\((?!\w+:|#)([^)]+)\)', (ROOT/'README.md').read_text(encoding='utf-8')):
        assert (ROOT/href).exists(), href


def test_home_page_shows_the_results_that_are_committed(tmp_path):
    nb = nbformat.read(NBS/'index.ipynb', as_version=4)
    NotebookClient(nb, kernel_name='python3', resources={'metadata': {'path': str(NBS)}}).execute()
    nbformat.write(nb, tmp_path/'index.ipynb')
    assert readme_text(tmp_path/'index.ipynb') == readme_text(NBS/'index.ipynb'), 'the results have changed: run `make readme`'


def test_the_page_on_the_reference_names_options_that_exist():
    typer_main = pytest.importorskip('typer.main')
    from speaker_vgg_cct.cli import app
    verbs = typer_main.get_command(app).commands
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
