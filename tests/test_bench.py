"The benchmark suite at its smallest: a whole table, a section that replaces its own rows only, and the page with a table and without one. No time is asserted."

import inspect
import json
from pathlib import Path

import joblib
import nbformat
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from speaker_vgg_cct.benchmarks import bench, cost, latency
from speaker_vgg_cct.benchmarks.bench import (
    COLUMNS,
    SECTIONS,
    STAGES,
    TINY,
    aims_shown,
    read_bench,
    run_bench,
)
from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import StoreError
from speaker_vgg_cct.website.report import run_pages

PAGE = Path(__file__).resolve().parent.parent / 'nbs' / 'paper' / 'speed.ipynb'


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    "Everything once; what would start a process runs in this one, and the command, which tests of its own have, does nothing."
    folder, called, told = tmp_path_factory.mktemp('bench'), [], []
    with (
        pytest.MonkeyPatch.context() as patch,
        joblib.parallel_config('sequential'),
    ):  # nor does joblib start processes

        def here(f, *args):
            return json.loads(
                json.dumps(
                    f(*args, **({'jobs': 1} if 'jobs' in inspect.signature(f).parameters else {}))
                )
            )

        patch.setattr(bench, 'child', lambda name, *args: here(getattr(bench, name), *args))
        patch.setattr(bench, 'command', lambda *args: called.append(args[0]))
        table = run_bench(
            folder / 'bench.csv',
            folder / 'work',
            size=TINY,
            command='made for a test',
            tell=told.append,
        )
    return table, folder / 'bench.csv', called, told


def test_every_section_is_there_and_whole(measured):
    table, file, called, told = measured
    assert list(table) == COLUMNS and list(dict.fromkeys(table.section)) == list(SECTIONS)
    both = table[table.other.notna()]
    assert np.isfinite(both.ratio).all() and (both.ratio > 0).all() and (table.value > 0).all()
    for c in ('value', 'other', 'ratio'):
        assert (table[f'{c}_q1'].dropna() <= table[c].dropna()).all() and (
            table[c].dropna() <= table[f'{c}_q3'].dropna()
        ).all()
    assert (
        table[
            [
                'what',
                'unit',
                'threads',
                'repeats',
                'processor',
                'torch',
                'date',
                'versions',
                'command',
            ]
        ]
        .notna()
        .all(axis=None)
    )
    assert {*STAGES} <= set(table.what[table.section == 'memory']) and set(called) == {
        'predict',
        '--help',
        'experiment',
    }
    assert any('clips done' in t for t in told)


def test_aims_are_of_rows_that_exist(measured):
    table = measured[0]
    known = set(zip(table.section, table.what))
    wanted = {
        (s, w)
        for s, w in bench.AIMS
        if 'CCT-14' not in w
        and ('augmentations' not in w or bench.importlib.util.find_spec('nlpaug'))
    }
    assert wanted <= known and len(aims_shown(table)) >= len(wanted)


def test_what_is_missing_is_said(measured, tmp_path, monkeypatch):
    real, told = bench.importlib.util.find_spec, []
    monkeypatch.setattr(
        bench.importlib.util, 'find_spec', lambda name: None if name == 'nlpaug' else real(name)
    )
    rows = bench.pictures(tmp_path, TINY, told.append)
    assert (
        'nlpaug is missing' in told[0]
        and rows
        and not any('augmentations' in r['what'] for r in rows)
    )


def test_a_section_replaces_its_own_rows_only(measured, tmp_path):
    table, file, *_ = measured
    copy = tmp_path / 'bench.csv'
    copy.write_bytes(file.read_bytes())
    new = run_bench(copy, tmp_path / 'work', ['step'], TINY, 'again', lambda s: None)
    old = table[table.section != 'step'].reset_index(drop=True)
    pd.testing.assert_frame_equal(new[new.section != 'step'].reset_index(drop=True), old)
    assert set(new.command[new.section == 'step']) == {'again'} and len(new) == len(table)


def test_other_numbers_of_clips_stand_side_by_side(measured, tmp_path):
    table, *_ = measured
    copy = tmp_path / 'bench.csv'
    rows = table[table.section == 'clips']
    bench.put(rows, copy)
    bench.put(rows.assign(of=100.0), copy)
    bench.put(rows.assign(of=100.0), copy)
    assert read_bench(copy).of.value_counts().to_dict() == {40.0: len(rows), 100.0: len(rows)}


@pytest.mark.parametrize(
    'args, said',
    [
        (['--only', 'picture'], "Did you mean 'pictures'?"),
        (['--only', 'step,nothing'], 'unknown section'),
    ],
)
def test_a_wrong_section_is_one_line(tmp_path, args, said):
    done = CliRunner().invoke(
        app, ['bench', *args, '--out', str(tmp_path / 'out'), '--results', str(tmp_path)]
    )
    assert (
        done.exit_code == 1
        and said in done.output
        and len(done.output.strip().splitlines()) == 1
        and not (tmp_path / 'bench.csv').exists()
    )


def test_a_child_that_fails_says_so():
    with pytest.raises(StoreError, match='a measurement failed'):
        bench.child('run_stage', 'nothing', '/nowhere')


def test_a_run_of_many_clips_goes_on_where_it_stopped(tmp_path, monkeypatch):
    real, calls = bench.store_pictures, []

    def stops(*args, **how):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **how)

    monkeypatch.setattr(bench, 'store_pictures', stops)
    monkeypatch.setattr(bench, 'ENCODERS', ())
    with pytest.raises(KeyboardInterrupt):
        bench.feature_blocks(tmp_path, 40, 1)
    first = json.loads((tmp_path / 'blocks.json').read_text())
    assert len(first) == 1
    assert bench.feature_blocks(tmp_path, 40, 1)[:1] == first and len(calls) == 3


def test_latency_of_another_processor_stands_beside(tmp_path, monkeypatch):
    measured = pd.DataFrame(
        [
            dict(
                model='small',
                runtime='onnx',
                threads=1,
                seconds=s,
                stage='end to end',
                p50=9.0,
                p95=10.0,
                ratio=1.2,
                realtime=0.01,
            )
            for s in (1, 2)
        ]
    )
    monkeypatch.setattr(latency, 'latency_table', lambda *args, **how: measured)
    f = tmp_path / 'latency.csv'
    for processor in ('one', 'another', 'one'):
        monkeypatch.setattr(cost, 'machine', lambda device, p=processor: dict(processor=p))
        assert (
            CliRunner()
            .invoke(app, ['latency', '--models', 'small', '--results', str(tmp_path)])
            .exit_code
            == 0
        )
    assert pd.read_csv(f).processor.tolist() == ['another'] * 2 + ['one'] * 2
    f.write_text('a,b\n1,2\n')
    monkeypatch.setattr(latency, 'latency_table', None)  # nothing is measured in vain
    assert (
        'lacks the columns'
        in CliRunner()
        .invoke(app, ['latency', '--models', 'small', '--results', str(tmp_path)])
        .output
    )


def markdown(file):
    return '\n'.join(
        o.data['text/markdown']
        for c in nbformat.read(file, as_version=4).cells
        for o in c.get('outputs', [])
        if 'text/markdown' in o.get('data', {})
    )


def test_the_page_is_made_with_and_without_a_table(measured, tmp_path):
    table, file, *_ = measured
    assert not any(c.get('outputs') for c in nbformat.read(PAGE, as_version=4).cells), (
        'times are stored in the page'
    )
    both = tmp_path / 'both' / 'bench.csv'
    both.parent.mkdir()
    both.write_bytes(file.read_bytes())
    bench.put(table[table.section == 'step'].assign(processor='Another'), both)
    run_pages({PAGE: tmp_path / 'with.ipynb'}, [both.parent])
    run_pages({PAGE: tmp_path / 'without.ipynb'}, [tmp_path])
    text = markdown(tmp_path / 'with.ipynb')
    assert (
        'Measured on' in text
        and 'gives out first' in text
        and 'made for a test' in text
        and 'nan' not in text
    )
    aims = text[text.index('What was aimed at') :].split('\n\n')[1]
    assert (
        aims.count('Another')
        == len(aims_shown(table[table.section == 'step']))
        < aims.count('| step |')
    ), 'aims stand for each kind of processor'
    assert (
        'A step of training, on Another:' in text and 'Speaker embeddings, on Another' not in text
    ), 'a section stands for the kind that was measured last'
    assert 'There is no `bench.csv` yet: `speaker-vgg-cct bench` makes it.' in markdown(
        tmp_path / 'without.ipynb'
    )
