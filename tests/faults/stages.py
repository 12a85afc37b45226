"Stages that are disturbed: their commands, what they make, and a way to start one in a process of its own."

import multiprocessing

import pandas as pd
import pytest
from stage import work

SMALL = 'model: speaker_vgg_cct_end_to_end_2_7x2_112\nlayout: mel\nepochs: 3\nwarmup_epochs: 1\nbatch_size: 16\nimg_size: [56, 56]\nmodel_ema: true\nmixup: 0.2\nencoder: resemblyzer\n'
GRID = 'preset: ../small.yaml\nseeds: {main: [0], control: [0]}\nsystems: {ours: {group: main}, no voice: {group: control, model: cct_2_7x2_112}}\n'
_COMMON = '--device cpu --jobs 1'
STAGES = {  # command, run in a folder of its own beside the corpora so that it is the same to the letter; what it makes
    'bundle': (
        f'bundle --corpora ../corpora --preset ../small.yaml -o model.svc --out out {_COMMON}',
        (
            'model.svc',
            'out/corpora/bundle/*/summary.csv',
            'out/corpora/bundle/*/validation.csv',
            'out/corpora/features/*/shard*',
        ),
    ),
    'experiment': (
        f'experiment --test-corpus SYNTH_B --corpora ../corpora --preset ../small.yaml --out out --results results {_COMMON}',
        (
            'results/runs.csv',
            'results/counts.csv',
            'results/epochs.csv',
            'results/provenance.jsonl',
            'out/corpora/**/model_best.safetensors',
            'out/corpora/**/predictions.csv',
            'out/corpora/**/split.csv',
        ),
    ),
    'pretrain': (
        f'pretrain --leave-out SYNTH_B --datasets-dir ../corpora -c ../small.yaml --out out --features out/features {_COMMON}',
        ('out/pretrain/functionals/checkpoint.safetensors', 'out/pretrain/functionals/*.csv'),
    ),
    'study': (
        f'study --systems ../study.yaml --test-corpora SYNTH_A,SYNTH_B --no-tables --corpora ../corpora --out out --results results {_COMMON}',
        (
            'results/runs.csv',
            'results/counts.csv',
            'results/epochs.csv',
            'results/provenance.jsonl',
            'out/corpora/**/model_best.safetensors',
            'out/corpora/**/predictions.csv',
            'out/corpora/**/validation.csv',
        ),
    ),
    'spectrograms': (
        'spectrograms --datasets-dir ../corpora --pictures-dir pictures --augmentations no_aug --size 64 --out out --jobs 1',
        ('pictures/**/*', 'out/*.csv'),
    ),
}
ONE_FAST = [
    'pretrain',
    *(pytest.param(s, marks=pytest.mark.slow) for s in STAGES if s != 'pretrain'),
]  # it reads, makes features, trains and writes, and is soon done
LIMIT = 1800  # seconds after which a stage counts as one that never ends, on a busy machine too
_times = 'seconds', 'date', 'created', 'hours'  # columns


def start(folder, stage, log=None):
    "The stage's command in `folder`, in a process that has the program loaded already."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['stage'])
    p = context.Process(
        target=work,
        args=(folder, STAGES[stage][0].split() if stage else ['--help'], log or folder / 'log'),
    )
    p.start()
    return p


def product(folder, stage):
    "File → content, of what a stage makes; times are left out."
    found = {}
    for f in sorted(
        {f for pattern in STAGES[stage][1] for f in folder.glob(pattern) if f.is_file()}
    ):
        data = f.read_bytes()
        if f.name in ('summary.csv', 'pretrain.csv', 'runs.csv'):
            data = pd.read_csv(f).drop(columns=list(_times), errors='ignore').to_csv().encode()
        found[f.relative_to(folder).as_posix()] = data
    return found
