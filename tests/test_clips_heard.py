"A run computes the speaker embeddings that it needs, each once; which others are stored changes no bit of it."

from collections import Counter
from itertools import product

import numpy as np
import pandas as pd
import pytest

import speaker_vgg_cct.training.dataset as data
from speaker_vgg_cct.data.split import make_split
from speaker_vgg_cct.training.dataset import prepare, speakers_of, store_voices

EMOTIONS = (
    'anger',
    'happy',
    'neutral',
    'sad',
    'disgust',
    'boredom',
    'calm',
)  # of the last three a task of four classes knows nothing
SEVERAL = 'resemblyzer+resemblyzer_layers'
VARIANTS = {
    'plain': dict(),
    'undersampled': dict(balance='undersampling'),
    'for use, nothing held out': dict(test_corpus=None),
    'at other speeds': dict(speeds=(0.9, 1.1)),
    'each encoder left out once': dict(encoder=SEVERAL, encoder_drop=True),
    'late fusion': dict(encoder=SEVERAL, late_fusion='resemblyzer'),
    'fitted on all': dict(fit_on='all'),
    'adapted': dict(deviation='zscore'),
    'adapted, at other speeds': dict(deviation='mean', speeds=(0.9, 1.1)),
    'adapted by two clips': dict(deviation='zscore', enrol=2),
    'adapted by none': dict(deviation='zscore', enrol=0),
}


@pytest.fixture
def manifest():
    rows = [
        dict(
            clip=f'{c}/{s}{e}{i}',
            corpus=c,
            speaker=f'{c}/{s}',
            emotion=e,
            sentence=str(i),
            path='',
            synthetic=True,
        )
        for c, s, e, i in product('ABC', range(4), EMOTIONS, range(3))
    ]
    return pd.DataFrame(rows).assign(sha256=lambda m: m['clip'])


@pytest.fixture
def heard(monkeypatch):
    "Clips and speeds that an encoder was asked for. It answers with numbers that are drawn for each clip."
    asked = Counter()

    class Voices(data.ClipVoices):
        def __call__(self, rows):
            asked.update((self.encoder, r['clip'], self.speed) for r in rows)
            return [
                data.make_rng(0, self.encoder, r['clip'], self.speed)
                .standard_normal(40)
                .astype(np.float32)
                for r in rows
            ]

    monkeypatch.setattr(data, 'ClipVoices', Voices)
    monkeypatch.setattr(data, 'in_parallel', lambda function, items, jobs: map(function, items))
    return asked


def made(manifest, root, test_corpus='A', balance='no_balanced', **options):
    split = make_split(manifest, test_corpus, balance=balance)
    return split, *prepare(split, manifest, None, root, 16, jobs=1, **options)


@pytest.mark.parametrize('name', VARIANTS)
def test_what_is_heard(name, manifest, heard, tmp_path):
    options = VARIANTS[name]
    split, parts, pca = made(manifest, tmp_path / 'new', **options)
    encoders, speeds, own = (
        options.get('encoder', 'resemblyzer').split('+'),
        options.get('speeds', ()),
        set(split['clip']),
    )
    theirs = set(speakers_of(split, manifest)['clip'])
    training = set(
        manifest['clip'][
            manifest.speaker.isin(
                manifest.speaker[manifest['clip'].isin(split['clip'][split.part == 'train'])]
            )
        ]
    )
    if 'deviation' not in options:
        plain, fast = own, set(split['clip'][split.part == 'train'])
    elif 'enrol' not in options:
        plain, fast = theirs, training
    else:
        plain, fast = {c for e, c, s in heard}, set()
        most = options['enrol'] * manifest.speaker[~manifest['clip'].isin(training)].nunique()
        assert own | training <= plain and len(plain - own - training) <= most
    assert set(heard) == {(e, c, 1.0) for e in encoders for c in plain} | {
        (e, c, s) for e in encoders for s in speeds for c in fast
    }
    assert set(heard.values()) == {1}, 'nothing is computed twice'
    if 'deviation' not in options:
        assert len(plain) <= 0.6 * len(manifest)

    for encoder, speed in product(encoders, (1.0, *speeds)):
        store_voices(manifest, tmp_path / 'full', encoder, jobs=1, speed=speed)
    heard.clear()
    _, others, again = made(manifest, tmp_path / 'full', **options)
    assert not heard
    for part in parts:
        assert np.array_equal(parts[part].speaker, others[part].speaker)
    for k in ('mean', 'components', 'explained', 'base', 'within', 'late'):
        assert np.array_equal(getattr(pca, k), getattr(again, k)), k
    assert pca.scale == again.scale and pca.clips == again.clips
