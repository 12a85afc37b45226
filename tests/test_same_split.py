"A result belongs to a split: baselines to that of their study, a run that is made again to the one that was recorded."

import json
from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import speaker_vgg_cct.cli.verbs as cli
import speaker_vgg_cct.experiments.study as study
from speaker_vgg_cct.data.split import make_split, split_hash
from speaker_vgg_cct.experiments.results import append_runs, result_row, run_name
from speaker_vgg_cct.training.loop import load_config

STUDY = dict(
    preset='quick',
    split={'balance': 'no_balanced'},
    seeds={'main': [0], 'ablation': [0]},
    systems={
        'ours': dict(group='main'),
        'balance: undersampled': dict(balance='undersampling'),
        'more to validate': dict(validation=0.5),
    },
)


@pytest.fixture
def manifest():
    "Clips of three corpora, as far as a split looks at them."
    rows = [
        dict(
            clip=f'{c}/{s}{e}{i}',
            corpus=c,
            speaker=f'{c}/{s}',
            emotion=e,
            sentence=str(i),
            gender='',
            seconds=1.0,
            path='',
            synthetic=False,
        )
        for c, s, e, i in product('ABC', range(4), ('anger', 'happy', 'neutral', 'sad'), range(3))
    ]
    return pd.DataFrame(rows).assign(sha256=lambda m: m['clip'])


@pytest.mark.parametrize(
    'only', [[], ['--only', 'balance: undersampled'], ['--only', 'more to validate']]
)
def test_baselines_are_those_of_the_study_whatever_system_is_asked_for(
    only, manifest, tmp_path, monkeypatch
):
    (tmp_path / 'study.yaml').write_text(yaml.safe_dump(STUDY))
    (tmp_path / 'corpora').mkdir()
    splits = []
    monkeypatch.setattr(cli, '_marked', lambda *a, **k: manifest)
    monkeypatch.setattr(cli, '_corpus_names', lambda corpora: list('ABC'))
    monkeypatch.setattr(
        study,
        'run_baselines',
        lambda manifest, corpus, seed, split, *a: splits.append((corpus, seed, split)),
    )
    monkeypatch.setattr(
        study, 'run_system', lambda *a: dict(uar=0, uar_low=0, uar_high=0, setting='')
    )
    args = [
        'study',
        '--systems',
        tmp_path / 'study.yaml',
        '--corpora',
        tmp_path / 'corpora',
        '--out',
        tmp_path / 'out',
        '--results',
        tmp_path / 'results',
        '--no-tables',
        *only,
    ]
    done = CliRunner().invoke(cli.app, list(map(str, args)))
    assert done.exit_code == 0, done.output
    assert splits == [(corpus, 0, {'balance': 'no_balanced'}) for corpus in 'ABC']


@pytest.mark.parametrize(
    'options',
    [
        dict(validation=0.5),
        dict(validation=0.75, balance='no_balanced'),
        dict(augmentation=['mask', 'speed']),
        dict(task='3', seed=2),
        dict(train_corpora=['B']),
    ],
)
def test_a_run_is_made_again_on_its_own_split(options, manifest, tmp_path, monkeypatch):
    split, config = (
        make_split(manifest, 'A', **options),
        load_config('quick', seed=options.get('seed', 0)),
    )
    made = dict(
        model=config.model,
        setting='inductive',
        synthetic=False,
        commit='',
        threads=1,
        system='ours',
        group='main',
        config_hash=config.hash,
        split_hash=split_hash(split),
        label_hash=split.attrs['label_hash'],
        split={k: v for k, v in split.attrs.items() if k not in ('classes', 'label_hash')},
    )
    row = result_row(made, dict(uar=50.0, accuracy=50.0, macro_f1=50.0, n=3))
    append_runs([row], tmp_path)
    asked = []
    (tmp_path / 'provenance.jsonl').write_text(
        json.dumps(dict(run=run_name(row), options=asdict(config), provenance=made)) + '\n'
    )

    def run_cell(split, *a, **more):
        asked.append(split)
        return dict(uar=50.0, accuracy=50.0, macro_f1=50.0), {}, {}

    monkeypatch.setattr(study, 'run_cell', run_cell)
    table = study.rerun(run_name(row), manifest, tmp_path, tmp_path / 'out')
    assert np.array_equal(table.recorded, table.again)
    assert split_hash(asked[0]) == split_hash(split) and asked[0].attrs[
        'validation'
    ] == options.get('validation', 0.25)
    assert asked[0].attrs['validation_speakers'] == made['split']['validation_speakers']
