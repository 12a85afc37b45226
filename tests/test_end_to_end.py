"The whole path as a user walks it: corpora, verbs, an experiment, a site; and twice the same."
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from speaker_vgg_cct.baselines import BASELINES, baseline_setting
from speaker_vgg_cct.synth import build

ROOT = Path(__file__).resolve().parent.parent
MODEL = 'speaker_vgg_cct_end_to_end_2_7x2_112' # of the preset `quick`


def cli(*args, status=0, cwd=ROOT):
    code = 'from speaker_vgg_cct.cli import app; app()'
    r = subprocess.run([sys.executable, '-c', code, *map(str, args)], cwd=cwd, capture_output=True, text=True)
    assert r.returncode == status, f'{args}\n{r.stdout}\n{r.stderr}'
    return r.stdout if status == 0 else r.stderr


@pytest.fixture(scope='module')
def corpora(tmp_path_factory):
    return build(tmp_path_factory.mktemp('corpora')/'small', sentences=2)


@pytest.fixture(scope='module')
def reported(corpora, tmp_path_factory):
    "One `report` on small corpora, two of them held out."
    out = tmp_path_factory.mktemp('out')
    shown = cli('report', '--corpora', corpora, '--out', out, '--results', out/'results', '--preset', 'quick', '--epochs', 2, '--warmup-epochs', 1,
                '--test-corpora', 'SYNTH_A,SYNTH_B', '--site', out/'site', '--device', 'cpu', '--jobs', 1)
    return out, shown


def test_results_table(reported):
    out, _ = reported
    table = pd.read_csv(out/'results'/'runs.csv')
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
    table = pd.read_csv(out/'results'/'runs.csv')
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
    table = pd.read_csv(out/'results'/'runs.csv')
    for name in ('SYNTH_A', 'SYNTH_B'):
        page = (out/'site'/'held_out'/f'{name}-seed0.html').read_text()
        uar = table[(table.test_corpus == name) & (table.system == MODEL)].uar.iloc[0]
        assert f'UAR <strong>{uar:.1f} %</strong>' in page and 'synthetic' in page.lower()


def test_again_gives_the_same_and_adds_nothing(reported, corpora, tmp_path):
    "The same command in another folder gives the same table; in the same folder it trains nothing and adds no row."
    out, _ = reported
    before = (out/'results'/'runs.csv').read_text()
    options = ('--corpora', corpora, '--preset', 'quick', '--epochs', 2, '--warmup-epochs', 1, '--device', 'cpu', '--jobs', 1, '--test-corpus', 'SYNTH_A')
    cli('experiment', '--out', out, '--results', out/'results', *options)
    assert (out/'results'/'runs.csv').read_text() == before
    cli('experiment', '--out', tmp_path, '--results', tmp_path/'results', *options)
    old, new = pd.read_csv(out/'results'/'runs.csv'), pd.read_csv(tmp_path/'results'/'runs.csv')
    old = old[old.test_corpus == 'SYNTH_A'].reset_index(drop=True).drop(columns='command')
    pd.testing.assert_frame_equal(old, new.drop(columns='command'))


def test_a_projection_that_saw_the_test_corpus_is_marked(corpora, tmp_path):
    "The reference's way, on request: every output says that it is transductive."
    page = cli('experiment', '--test-corpus', 'SYNTH_A', '--corpora', corpora, '--out', tmp_path, '--results', tmp_path/'results', '--preset', 'quick',
               '--epochs', 1, '--warmup-epochs', 0, '--fit-on', 'all', '--device', 'cpu', '--jobs', 1).strip().splitlines()[-1]
    assert pd.read_csv(tmp_path/'results'/'runs.csv').set_index('system').setting[MODEL] == 'transductive'
    assert yaml.safe_load(next(tmp_path.rglob('performance.yaml')).read_text())['setting'] == 'transductive'
    assert '**transductive**' in Path(page).read_text() and '**inductive**' not in Path(page).read_text()


def test_an_error_in_the_notebook_is_the_commands(corpora, tmp_path):
    shown = cli('experiment', '--test-corpus', 'SYNTH_D', '--corpora', corpora, '--out', tmp_path, '--results', tmp_path/'results', status=1)
    assert 'error: ' in shown and 'SplitError: unknown test corpus' in shown and 'Traceback' not in shown
    assert not (tmp_path/'results'/'runs.csv').exists() and list(tmp_path.rglob('*.failed.ipynb'))


def test_errors_are_one_line(tmp_path):
    (tmp_path/'empty').mkdir()
    for args in (('corpora', tmp_path/'empty', '--out', tmp_path/'o'), ('train', tmp_path), ('eval', tmp_path, '--data-test-path', tmp_path)):
        shown = cli(*args, status=1)
        assert shown.startswith('error: ') and 'Traceback' not in shown and str(tmp_path) in shown
    assert not (tmp_path/'empty').stat().st_nlink > 2
