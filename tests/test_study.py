"A small study of synthetic corpora through the command line, to its tables and pages; the ablation notebook by papermill."

import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
import yaml
from typer.testing import CliRunner

from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import ConfigError
from speaker_vgg_cct.experiments.analysis import read_cells
from speaker_vgg_cct.experiments.results import read_runs, run_name
from speaker_vgg_cct.experiments.study import read_systems
from speaker_vgg_cct.website.report import run_pages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SHORT = dict(epochs=2, warmup_epochs=0, img_size=32)
TINY = dict(
    preset='quick',
    split={'balance': 'no_balanced'},
    seeds={'main': [0, 1], 'control': [0], 'ablation': [0]},
    systems={
        'ours': dict(group='main', **SHORT),
        'ours, adapted': dict(group='main', **SHORT, deviation='zscore'),
        'ours, adapted by the mean': dict(group='main', **SHORT, deviation='mean'),
        'zeroed': dict(group='control', **SHORT, speaker_control='zeroed'),
        'PCA on everything': dict(**SHORT, fit_on='all'),
        'pretrained': dict(**SHORT, pretrain='functionals'),
    },
)


def run(*args):
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp('study')
    (root / 'study.yaml').write_text(yaml.safe_dump(TINY))
    args = (
        'study',
        '--systems',
        root / 'study.yaml',
        '--out',
        root,
        '--device',
        'cpu',
        '--jobs',
        1,
    )
    done = run(*args, '--test-corpora', 'SYNTH_C', '--inner')
    assert done.exit_code == 0, done.output
    return root, args, done


def test_each_cell_is_there_and_in_its_setting(study):
    root, _, _ = study
    cells = read_cells(root / 'synthetic' / 'study')
    assert set(cells.system[cells.group != 'baseline']) == set(TINY['systems'])
    setting = cells.set_index('system').setting.groupby(level=0).first()
    assert setting[['ours', 'ours, adapted', 'PCA on everything', 'pretrained']].tolist() == [
        'inductive',
        'speaker-adapted',
        'transductive',
        'inductive',
    ]
    runs = read_runs(root / 'synthetic' / 'results')
    assert (
        len(runs[(runs.group == 'main')]) == 6
        and runs[runs.group == 'main'].validation_uar.notna().all()
        and (runs.group == 'baseline').any()
    )
    ledgers = json.loads(
        (
            root / 'synthetic' / 'study' / 'pretrained' / 'SYNTH_C' / 'seed0' / 'ledgers.json'
        ).read_text()
    )
    seen = next(entry for entry in ledgers if entry['name'] == 'pretraining')['clips']
    assert seen and not any(c.startswith('SYNTH_C/') for c in seen)


def test_the_same_command_trains_nothing_again(study):
    root, args, _ = study

    def stamps():
        return {f: f.stat().st_mtime_ns for f in (root / 'synthetic').rglob('*.safetensors')}

    before, rows = stamps(), len(read_runs(root / 'synthetic' / 'results'))
    done = run(*args, '--test-corpora', 'SYNTH_C', '--inner', '--no-tables')
    assert (
        done.exit_code == 0
        and stamps() == before
        and len(read_runs(root / 'synthetic' / 'results')) == rows
    )


def test_a_cell_of_the_table_can_be_made_again_from_its_provenance(study, tmp_path):
    root, _, _ = study
    results = root / 'synthetic' / 'results'
    name = run_name(read_runs(results).query("system == 'ours' and seed == 1").iloc[0].to_dict())
    again = run('rerun', name, '--record', '--out', root, '--device', 'cpu', '--jobs', 1)
    assert again.exit_code == 0 and 'the same' in again.output and 'uar' in again.output, (
        again.output
    )
    known = pd.read_csv(results / 'reruns.csv')
    assert (
        known.name.tolist() == [name]
        and known.processor[0] == known.recorded_on[0]
        and abs(known.recorded[0] - known.again[0]) < 1e-3
    )
    (results / 'reruns.csv').rename(
        tmp_path / 'reruns.csv'
    )  # the other tests count the tables of a study
    other = tmp_path / 'results'
    shutil.copytree(results, other)
    table = read_runs(other)
    table.loc[table.system == 'ours', 'uar'] += 1
    table.to_csv(other / 'runs.csv', index=False)
    differs = run('rerun', name, '--out', root, '--results', other, '--device', 'cpu', '--jobs', 1)
    assert (
        differs.exit_code == 1
        and "came out differently" in differs.output
        and 'uar' in differs.output
    )


def test_what_cannot_be_made_again_is_said(study):
    root, _, _ = study
    baseline = run_name(
        read_runs(root / 'synthetic' / 'results').query("group == 'baseline'").iloc[0].to_dict()
    )
    for name, why in (('nothing', 'unknown run'), (baseline, 'baselines and floors have none')):
        asked = run('rerun', name, '--out', root, '--device', 'cpu', '--jobs', 1)
        assert asked.exit_code == 1 and why in asked.output, asked.output


def test_every_table_is_written_and_pages_show_them(study, tmp_path):
    root, _, done = study
    results = root / 'synthetic' / 'results'
    names = {
        'comparison',
        'calibration',
        'reliability',
        'coverage',
        'distance',
        'selection',
        'ensembles',
        'probes',
        'attention',
        'groups',
        'confusions',
        'enrolment',
    }
    assert {f.stem for f in results.glob('*.csv')} == names | {'runs'}
    for name in names:
        t = pd.read_csv(results / f'{name}.csv')
        assert len(t) and {'synthetic', 'label_hash', 'commit', 'command'} <= set(t), name
    assert 'inner' in set(pd.read_csv(results / 'selection.csv').way.str[:5])
    assert (
        not pd.read_csv(results / 'enrolment.csv')
        .duplicated(['system', 'test_corpus', 'seed', 'k', 'draw'])
        .any()
    ), 'the curve of a baseline stands there once for each system'
    run_pages(
        {
            ROOT / 'nbs' / 'paper' / f'{page}.ipynb': tmp_path / f'{page}.ipynb'
            for page in ('ablation', 'enrolment', 'results')
        },
        [results],
    )  # raises if a cell fails; the others are tried where their tables are made


def test_the_ablation_notebook(study, tmp_path):
    root, _, _ = study
    papermill.execute_notebook(
        str(ROOT / 'nbs' / 'experiments' / 'ablation.ipynb'),
        str(tmp_path / 'a.ipynb'),
        dict(
            corpora=str(root / 'synthetic' / 'corpora'),
            out=str(root / 'synthetic'),
            systems=str(root / 'study.yaml'),
            only=['PCA on everything', 'pretrained'],
            device='cpu',
            jobs=1,
        ),
        cwd=str(ROOT / 'nbs' / 'experiments'),
        kernel_name='python3',
        progress_bar=False,
        start_timeout=600,
    )
    text = ' '.join(
        o.get('data', {}).get('text/plain', '')
        for c in nbformat.read(tmp_path / 'a.ipynb', 4).cells
        for o in c.get('outputs', [])
    )
    assert 'pretrained' in text and 'PCA on everything' in text


def test_what_is_asked_wrongly_is_said(study, tmp_path):
    root, args, _ = study
    assert "'mains'" in run(*args, '--groups', 'mains').output
    assert "'SYNTH_X'" in run(*args, '--test-corpora', 'SYNTH_X').output
    (root / 'bad.yaml').write_text(yaml.safe_dump(TINY | {'systems': {'x': {'pretrain': 'words'}}}))
    with pytest.raises(ConfigError, match="'words'"):
        read_systems(root / 'bad.yaml')
