"Every kind of run that the options allow trains, is tested, and is read back: pictures, fusions, mixing, optimizers, tasks."

import numpy as np
import pytest

from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.split import make_split
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.evaluation.metrics import evaluate
from speaker_vgg_cct.features.spectrogram import picture_params
from speaker_vgg_cct.training.dataset import prepare
from speaker_vgg_cct.training.loop import load_config, load_run, make_model, train

ONE = dict(epochs=1, warmup_epochs=0, cooldown_epochs=0, batch_size=16)
RUNS = {
    'the paper recipe on a small model': (
        'paper',
        dict(model='speaker_vgg_cct_end_to_end_2_7x2_112', pretrained=False),
        {},
    ),
    'grey pictures of a fixed duration': ('quick', dict(cmap='none', in_chans=1, seconds=1.5), {}),
    'no speaker': ('quick', dict(model='cct_2_7x2_112', mixup=0.4, cutmix=1.0), {}),
    'the speaker at a second level': (
        'quick',
        dict(model='speaker_vgg_cct_2_7x2_112', mixup=0.4, sched='step', opt='sgd', lr=0.01),
        {},
    ),
    'the speaker token read': (
        'quick',
        dict(
            model='speaker_vgg_cct_end_to_end_speaker_token_2_7x2_112',
            model_ema=True,
            eval_metric='loss',
            clip_grad=1.0,
        ),
        {},
    ),
    'three classes, augmented, balanced': (
        'quick',
        dict(n_components=20),
        dict(task='3', balance='balanced_aug'),
    ),
    'seven classes, masks': ('quick', {}, dict(task='all', augmentation='mask,maskfreq')),
}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('train')
    return root, read_corpora(build(root / 'corpora', sentences=1))[0]


@pytest.mark.parametrize('name', RUNS)
def test_run(name, place, tmp_path):
    (root, manifest), (preset, options, splitting) = place, RUNS[name]
    split = make_split(manifest, 'SYNTH_C', **splitting)
    config = load_config(preset, **ONE | options)
    model = make_model(config, len(split.attrs['classes']))
    parts, pca = prepare(
        split,
        manifest,
        picture_params(config, model.img_size),
        root / 'features',
        model.speaker_dim,
        config.encoder,
        config.n_components,
        jobs=1,
    )
    out = train(parts, pca, split, config, tmp_path / 'run', device='cpu')
    m = evaluate(out, parts['test'], 'cpu')
    assert (
        m['n'] == (split.part == 'test').sum()
        and 0 <= m['uar_low'] <= m['uar'] <= m['uar_high'] <= 100
    )
    again, _, projection, made = load_run(out)
    assert made['classes'] == split.attrs[
        'classes'
    ] and again.takes_speaker == model.takes_speaker == (projection is not None)
    if projection:
        assert set(projection.clips) == set(
            split['clip'][split.part == 'train']
        ) and np.array_equal(projection.components, pca.components)
