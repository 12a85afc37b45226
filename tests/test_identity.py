"What a run is: its hash holds what can change its results and nothing else, and an option does what it says."

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

import speaker_vgg_cct.training.loop as t
from speaker_vgg_cct.config import Config, understood
from speaker_vgg_cct.core import ConfigError
from speaker_vgg_cct.experiments.results import read_runs, run_name
from speaker_vgg_cct.training.dataset import ClipData, Store
from speaker_vgg_cct.training.loop import config_of, load_config, make_model, train

ROOT = Path(__file__).resolve().parent.parent
TINY = dict(
    model='speaker_vgg_cct_end_to_end_2_7x2_112',
    img_size=32,
    cmap=None,
    in_chans=1,
    batch_size=8,
    epochs=2,
    warmup_epochs=0,
)
CLASSES = ['anger', 'happy']
ELSEWHERE = dict(
    workers=2, checkpoint_hist=2, save_graphs=False, validation_batch_size_multiplier=1
)


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
    "Pictures and voices of noise, which are as good as others to compare two trainings."
    store, rng = (
        Store(tmp_path_factory.mktemp('identity'), 'pictures', {}),
        np.random.default_rng(0),
    )

    def part(name, n):
        keys = [f'{name}{i}' for i in range(n)]
        store.add(keys, rng.integers(0, 256, (n, 32, 32), np.uint8))
        rows = pd.DataFrame(
            {
                'clip': keys,
                'part': name,
                'corpus': 'A',
                'speaker': name,
                'label': [CLASSES[i % 2] for i in range(n)],
                'synthetic': True,
                'sha256': keys,
            }
        )
        return ClipData(
            rows, store, keys, rng.standard_normal((n, 128)).astype(np.float32), np.arange(n) % 2
        )

    return {'train': part('train', 32), 'validation': part('validation', 16)}


def trained(parts, out, **options):
    split = pd.concat([p.rows for p in parts.values()], ignore_index=True).assign(
        augmentation='', copy=0
    )
    split.attrs = dict(
        classes=CLASSES, label_hash='x', test_corpus='B', train_corpora=['A'], seed=0
    )
    return train(parts, None, split, config_of(TINY | options), out, 'cpu')


@pytest.fixture(scope='module')
def plain(parts, tmp_path_factory):
    return trained(parts, tmp_path_factory.mktemp('plain') / 'run')


def same_weights(a, b):
    return all(torch.equal(a[k], b[k]) for k in a.keys() | b.keys())


def test_recorded_runs_keep_their_hash():
    recorded = {run_name(r): r for r in read_runs(ROOT / 'results').to_dict('records')}
    seen = 0
    for line in (ROOT / 'results' / 'provenance.jsonl').read_text().splitlines():
        run = json.loads(line)
        args = run['options']
        if any(args[k] and not Path(args[k]).is_file() for k in ('initial_checkpoint', 'weights')):
            continue
        assert config_of(args).hash == recorded[run['run']]['config_hash'], run['run']
        seen += 1
    assert seen >= 100


@pytest.mark.parametrize('name', ELSEWHERE)
def test_what_cannot_change_a_result_is_not_part_of_its_identity(name, parts, plain, tmp_path):
    assert config_of({name: ELSEWHERE[name]}).hash == Config().hash
    other = trained(parts, tmp_path / 'run', **{name: ELSEWHERE[name]})
    assert same_weights(
        load_file(plain / 'resume.safetensors'), load_file(other / 'resume.safetensors')
    )
    drop = dict(columns=['seconds'])
    one, two = (pd.read_csv(f / 'summary.csv').drop(**drop) for f in (plain, other))
    np.testing.assert_allclose(
        one, two, rtol=1e-5
    )  # the last digits of the validation loss may differ with the size of its batches


def test_a_run_goes_on_with_other_of_these_options(parts, tmp_path, capsys):
    trained(parts, tmp_path / 'run')
    before = (tmp_path / 'run' / 'resume.safetensors').stat().st_mtime_ns
    trained(parts, tmp_path / 'run', **ELSEWHERE)
    assert (tmp_path / 'run' / 'resume.safetensors').stat().st_mtime_ns == before, 'it was finished'
    assert 'were not kept' in capsys.readouterr().out, (
        'the weights of the second best epoch are gone'
    )


def test_every_other_option_is_part_of_it():
    for f in fields(Config):
        other = {
            bool: lambda v: not v,
            int: lambda v: v + 1,
            float: lambda v: v + 0.5,
            str: lambda v: f'{v}x',
            tuple: lambda v: v[::-1],
        }
        value = f.default if f.default is not None else 1
        changed = replace(
            Config(), **{f.name: other[type(value)](value) if f.default is not None else value}
        )
        if f.name in ('initial_checkpoint', 'weights'):
            continue  # files, which count by their content
        assert (changed.hash == Config().hash) == (f.name in {*ELSEWHERE, 'channels_last'}), f.name


@pytest.mark.parametrize(
    'seed',
    [
        2**53 + 1,
        2**62 + 1,
        -1,
        -(2**60) - 1,
        str(2**53 + 1),
        ' 12 ',
        '1e3',
        7.0,
        np.int64(2**62 + 1),
    ],
)
def test_a_whole_number_is_exactly_itself(seed):
    wanted = {'1e3': 1000, ' 12 ': 12, 7.0: 7, str(2**53 + 1): 2**53 + 1}.get(seed, seed)
    got = load_config('quick', seed=seed).seed
    assert type(got) is int and got == wanted
    assert yaml.safe_load(yaml.safe_dump(asdict(load_config('quick', seed=seed))))['seed'] == wanted


@pytest.mark.parametrize(
    'seed',
    [
        1e16,
        '1e16',
        float(2**53),
        '9007199254740993.0',
        1.5,
        2**63,
        -(2**63) - 1,
        10**400,
        '1e400',
        'nan',
        True,
    ],
)
def test_or_it_is_refused(seed):
    with pytest.raises(ConfigError, match='seed must be') as e:
        load_config('quick', seed=seed)
    assert len(str(e.value)) < 1000


def test_a_number_too_large_for_a_float_is_refused():
    with pytest.raises(ConfigError, match='lr must be'):
        understood({'lr': 10**400}, None)


def averages(parts, monkeypatch, **options):
    "The weights after each step of two epochs, and the average that `train_epoch` makes of them."
    config = config_of(TINY | dict(model_ema=True, model_ema_decay=0.9) | options)
    model = make_model(config, 2)
    optimizer, ema, weights = t.make_optimizer(model, config), t.make_average(model, config), []
    weights.append(model.classifier.fc.weight.detach().clone())
    for epoch in range(2):
        t.train_epoch(
            model,
            parts['train'],
            config,
            optimizer,
            epoch,
            torch.device('cpu'),
            ema,
            lambda: weights.append(model.classifier.fc.weight.detach().clone()),
        )
    return weights, ema.module.classifier.fc.weight


def test_the_average_warms_up_if_it_is_asked_to(parts, monkeypatch):
    weights, average = averages(parts, monkeypatch, model_ema_warmup=True)
    wanted = weights[0]
    for n, w in enumerate(weights[1:], 1):
        wanted = torch.lerp(wanted, w, 1 - min(0.9, 1 - n ** (-2 / 3)))
    assert torch.allclose(average, wanted, atol=1e-7) and len(weights) == 9


def test_and_else_it_is_what_the_recorded_runs_did(parts, monkeypatch):
    "The decay is the same from the first step on, and the first average is of the weights before it."
    weights, average = averages(parts, monkeypatch)
    wanted = weights[0]
    for w in weights[1:]:
        wanted = torch.lerp(wanted, w, 1 - 0.9)
    assert torch.allclose(average, wanted, atol=1e-7)


def test_the_warm_up_goes_on_where_a_run_stopped(parts, tmp_path, monkeypatch):
    options = dict(model_ema=True, model_ema_warmup=True)
    whole, one = trained(parts, tmp_path / 'whole', **options), t._write_epoch

    class Stop(Exception):
        pass

    def stop(*a):
        one(*a)
        raise Stop

    with monkeypatch.context() as m, pytest.raises(Stop):
        m.setattr(t, '_write_epoch', stop)
        trained(parts, tmp_path / 'cut', **options)
    cut = trained(parts, tmp_path / 'cut', **options)
    assert same_weights(
        load_file(whole / 'resume.safetensors'), load_file(cut / 'resume.safetensors')
    )
    constant = trained(parts, tmp_path / 'constant', model_ema=True)
    assert not same_weights(
        load_file(whole / 'resume.safetensors'), load_file(constant / 'resume.safetensors')
    )


def test_a_warm_up_of_nothing_is_refused():
    with pytest.raises(ConfigError, match='no running average to warm up'):
        config_of({'model_ema_warmup': True})
