"""Training by several processes is the training by one. `accelerate launch` starts two on the CPU (gloo, loopback), on this file or on the command.

Tolerance: the mean of two halves of a batch and the mean of the batch are summed in another order, so a gradient differs in its last digit, about 1e-7 of it,
and each step builds on the last. TOLERANCE is more than ten times what these few steps make of that, and far below what another draw makes, which is tested too.
Weights are not compared: those on which the loss does not depend, such as the bias of keys, have gradients of rounding alone, and AdamW makes whole steps of these."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import speaker_vgg_cct.training.loop as t
from speaker_vgg_cct.core import ConfigError, make_rng
from speaker_vgg_cct.data.corpora import read_corpora, save_manifest
from speaker_vgg_cct.data.split import make_split, save_split
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.training.dataset import ClipData, Store, speakers_of
from speaker_vgg_cct.training.loop import launched, load_config, make_model, train

TOLERANCE = 1e-5
STEADY = dict(
    img_size=48,
    epochs=3,
    warmup_epochs=0,
    batch_size=16,
    save_graphs=False,
    attn_drop=0.0,
    drop_path=0.0,
)  # without dropout, which is each process's own
RUNS = {
    'mixed, erased, noisy': dict(
        mixup=0.4,
        cutmix=1.0,
        mixup_mode='elem',
        reprob=0.3,
        picture_drop=0.3,
        speaker_noise=0.3,
        model_ema=True,
        sampling='corpora',
        clip_grad=1.0,
    ),
    'views, read ahead': dict(
        aug_splits=2, jsd=True, aa='augmix-m3', workers=1, epochs=1, batch_size=8
    ),
    'a network with weights that it does not use': dict(
        model='speaker_vgg_cct_2_7x2_112', mixup=0.4, weights_regularization=True, epochs=2
    ),
    'dropout': dict(attn_drop=0.1, drop_path=0.1, drop=0.1, epochs=1),
}


ALL = 'mixed, erased, noisy'


class Stop(Exception):
    pass


def clips():
    "A split of clips that nobody has recorded: three corpora, each of four speakers."
    who = pd.MultiIndex.from_product(
        [['A', 'B', 'C'], range(4), ['anger', 'happy', 'neutral', 'sad'], range(3)],
        names=['corpus', 'speaker', 'emotion', 'sentence'],
    ).to_frame(index=False)
    name = who.astype(str).agg('-'.join, axis=1)
    table = who.assign(
        clip=name,
        path=name,
        sha256=name,
        speaker=who.corpus + '/' + who.speaker.astype(str),
        seconds=1.0,
        gender='f',
        language='en',
        synthetic=True,
    )
    return table, make_split(table, 'C')


def run(root, name, out, team=None, stop=None, **options):
    "One of `RUNS`, on noise; `stop` is called when the second epoch begins."
    config, parts = load_config('quick', **STEADY | RUNS[name] | options), {}
    width = make_model(config, 4).speaker_dim
    table, split = clips()
    pictures = Store(root, 'pictures', {})
    if not len(pictures):
        pictures.add(
            table['clip'].tolist(), make_rng(0).integers(0, 256, (len(table), 48, 48), np.uint8)
        )
    for part, rows in split.join(table.set_index('clip'), on='clip').groupby('part', sort=False):
        rows = rows.reset_index(drop=True)
        labels = rows.label.map(split.attrs['classes'].index).to_numpy(np.int64, copy=True)
        parts[part] = ClipData(
            rows,
            pictures,
            rows['clip'].tolist(),
            make_rng(0, part).normal(size=(len(rows), width)).astype(np.float32),
            labels,
        )
    whole = t.train_epoch

    def until(model, data, config, optimizer, epoch, *rest):
        if epoch == 1:
            stop()
        return whole(model, data, config, optimizer, epoch, *rest)

    t.train_epoch = until if stop else whole
    try:
        return train(parts, None, split, config, out, 'cpu', watch=parts['test'], team=team)
    finally:
        t.train_epoch = whole


def stopped(*args, **options):
    def stop():
        raise Stop

    with suppress(Stop):
        run(*args, stop=stop, **options)


def in_both(root, what):
    "What each of the two processes does."
    with launched('cpu') as team:

        def fails():
            if team.rank:
                raise ConfigError('this process alone fails', value=team.rank)

        if what == 'fail':
            run(root, ALL, root / 'failed', team, stop=fails)
        for name in RUNS:
            run(root, name, root / 'two' / name, team)
        stopped(root, ALL, root / 'cut', team)
        run(root, ALL, root / 'cut', team)
        run(root, ALL, root / 'begun', team)


def begin(*command):
    "Two processes of a Python file, as a group of their own."
    here = Path(__file__).resolve().parent.parent
    env = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        'PYTHONPATH': os.pathsep.join([str(here), os.environ.get('PYTHONPATH', '')]),
    }
    start = '-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0'
    return subprocess.Popen(
        [sys.executable, *start.split(), *map(str, command)],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def ended(process):
    "Exit code and output; a process that hangs fails the test."
    try:
        out, err = process.communicate(timeout=1800)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('accelerate')
    for name in RUNS:
        run(root, name, root / 'one' / name)
    stopped(root, ALL, root / 'begun')
    return root


@pytest.fixture(scope='module')
def both(place):
    "The runs of two processes beside those of one."
    code, _, err = ended(begin(__file__, place, 'train'))
    assert code == 0, err
    return place


def curve(out):
    return pd.read_csv(out / 'summary.csv')[['train_loss', 'eval_loss']]


def apart(a, b):
    assert len(curve(a)) == len(curve(b))
    return np.abs(curve(a) - curve(b)).to_numpy().max()


@pytest.mark.parametrize('name', [n for n in RUNS if n != 'dropout'])
def test_two_processes_have_the_loss_curve_of_one(both, name):
    assert apart(both / 'one' / name, both / 'two' / name) < TOLERANCE


def test_the_tolerance_is_below_what_another_draw_makes(both):
    run(both, ALL, both / 'other', speaker_noise=0.4)
    assert apart(both / 'one' / ALL, both / 'other') > 10 * TOLERANCE


def test_dropout_is_drawn_by_each(both):
    assert TOLERANCE < apart(both / 'one' / 'dropout', both / 'two' / 'dropout') < 1


def test_a_resumed_run_ends_as_the_whole_one(both):
    for f in ('model_best.safetensors', 'resume.safetensors'):
        a, b = load_file(both / 'two' / ALL / f), load_file(both / 'cut' / f)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_begun_by_one_process_and_ended_by_two(both):
    assert apart(both / 'one' / ALL, both / 'begun') < TOLERANCE
    made = {
        d: json.loads((both / d / 'provenance.json').read_text())['processes']
        for d in (f'one/{ALL}', f'two/{ALL}', 'begun')
    }
    assert [*made.values()] == [{'0': 1}, {'0': 2}, {'0': 1, '1': 2}]


@pytest.mark.slow
def test_when_one_process_fails_all_end(place):
    code, _, err = ended(begin(__file__, place, 'fail'))
    assert (
        code
        and err.count('ConfigError: this process alone fails') == 1
        and 'RuntimeError' not in err
    )


@pytest.mark.slow
def test_the_command(tmp_path):
    manifest = read_corpora(build(tmp_path / 'corpora', sentences=1))[0]
    split = make_split(manifest, 'SYNTH_C')
    folder = save_split(split, manifest, tmp_path / 'data')
    save_manifest(speakers_of(split, manifest), folder / 'manifest.csv')
    verb = [
        shutil.which('speaker-vgg-cct'),
        'train',
        folder,
        '-c',
        'quick',
        '--device',
        'cpu',
        '--features',
        tmp_path / 'features',
        '--root-output-dir',
        tmp_path / 'runs',
        '--warmup-epochs',
        1,
    ]
    code, _, err = ended(begin(*verb, '--epochs', 2, '-b', 15))  # an option that is wrong for two
    assert code and [line for line in err.splitlines() if line.startswith('error:')] == [
        'error: batch_size must be divisible by the number of processes, 2 (got 15)'
    ]
    assert not list(tmp_path.glob('runs/**/args.yaml'))
    p, seen = begin(*verb, '--epochs', 40), ''
    while 'val_uar' not in seen:  # until an epoch is done
        seen += (c := p.stderr.read(1))
        assert c, f'it has ended: {seen}'
    os.killpg(p.pid, signal.SIGINT)  # Ctrl-C
    code, _, err = ended(p)
    done = len(pd.read_csv(next(tmp_path.glob('runs/**/summary.csv'))))
    assert code and err.count('interrupted: the same command goes on') == 1 and 0 < done < 40
    code, out, err = ended(begin(*verb, '--epochs', 40))
    assert code == 0, err
    assert (
        out.count('run folder:') == 1
        and len(pd.read_csv(next(tmp_path.glob('runs/**/summary.csv')))) == 40
    )


if __name__ == '__main__':
    in_both(Path(sys.argv[1]), sys.argv[2])
