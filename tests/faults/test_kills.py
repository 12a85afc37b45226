"A long stage is killed at random moments and started again, until it ends: its product is that of a run which nobody disturbed."
import multiprocessing
import os
import random
import signal
import time

import pandas as pd
import pytest
from stage import work

from speaker_vgg_cct.synth import build

KILLS = 4 # of each stage
MANY = 25 # of each stage, in the slow test
SIGNALS = signal.SIGKILL, signal.SIGINT

SMALL = 'model: speaker_vgg_cct_end_to_end_2_7x2_112\nlayout: mel\nepochs: 3\nwarmup_epochs: 1\nbatch_size: 16\nimg_size: [56, 56]\nmodel_ema: true\nmixup: 0.2\nencoder: resemblyzer\n'
STAGES = { # command, run in a folder of its own beside the corpora so that it is the same to the letter; what it makes
    'bundle': ('bundle --corpora ../corpora --preset ../small.yaml -o model.svc --out out --device cpu --jobs 1', ('model.svc', 'out/corpora/bundle/*/summary.csv', 'out/corpora/bundle/*/validation.csv', 'out/corpora/features/*/shard*')),
    'pretrain': ('pretrain --leave-out SYNTH_B --datasets-dir ../corpora -c ../small.yaml --out out --features out/features --device cpu --jobs 1', ('out/pretrain/functionals/checkpoint.safetensors', 'out/pretrain/functionals/*.csv')),
    'spectrograms': ('spectrograms --datasets-dir ../corpora --pictures-dir pictures --augmentations no_aug --size 64 --out out --jobs 1', ('pictures/**/*', 'out/*.csv'))}

ONE_FAST = ['bundle', *(pytest.param(s, marks=pytest.mark.slow) for s in STAGES if s != 'bundle')] # the longest of them holds the others' work


def start(folder, args, log=None):
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['stage'])
    p = context.Process(target=work, args=(folder, args, log or folder/'log'))
    p.start()
    return p


def product(folder, patterns):
    "File → content, of what a command makes; times are left out."
    found = {}
    for pattern in patterns:
        for f in sorted(f for f in folder.glob(pattern) if f.is_file()):
            data = f.read_bytes()
            if f.name in ('summary.csv', 'pretrain.csv'):
                data = pd.read_csv(f).drop(columns='seconds', errors='ignore').to_csv().encode()
            found[f.relative_to(folder).as_posix()] = data
    return found


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('kills')
    build(root/'corpora', sentences=1)
    (root/'small.yaml').write_text(SMALL)
    return root


@pytest.fixture(scope='module')
def undisturbed(place):
    "What a stage makes, and how long it takes, when nobody disturbs it."
    made = {}
    start(place, ['--help']).join(60) # so that the program is loaded before the clock starts
    def of(stage):
        if stage not in made:
            folder, began = place/f'whole-{stage}', time.monotonic()
            folder.mkdir()
            p = start(folder, STAGES[stage][0].split())
            p.join(300)
            assert p.exitcode == 0, (folder/'log').read_text()[-2000:]
            made[stage] = product(folder, STAGES[stage][1]), time.monotonic() - began
        return made[stage]
    return of


def disturbed(place, undisturbed, stage, kills, seed):
    expected, seconds = undisturbed(stage)
    assert expected
    rng, folder, done = random.Random(seed), place/f'killed-{stage}-{seed}', 0
    folder.mkdir()
    for attempt in range(10*kills):
        p = start(folder, STAGES[stage][0].split())
        if done < kills:
            p.join(rng.uniform(.05, seconds/2))
            if p.is_alive():
                os.kill(p.pid, SIGNALS[done % 2])
                done += 1
        p.join(300)
        if p.exitcode == 0: break
        assert p.exitcode in (-signal.SIGKILL, -signal.SIGINT, 130, 1), (folder/'log').read_text()[-2000:]
    log = (folder/'log').read_text()
    assert p.exitcode == 0, log[-2000:]
    found = product(folder, STAGES[stage][1])
    assert sorted(found) == sorted(expected)
    assert [k for k in found if found[k] != expected[k]] == []
    return done


@pytest.mark.parametrize('stage', ONE_FAST)
def test_killed_and_started_again_it_makes_the_same(place, undisturbed, stage):
    assert disturbed(place, undisturbed, stage, KILLS, 0) >= 1


@pytest.mark.slow
@pytest.mark.parametrize('stage', STAGES)
def test_killed_many_times(place, undisturbed, stage):
    assert disturbed(place, undisturbed, stage, MANY, 1) >= MANY/2
