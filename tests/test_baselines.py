"What the baselines may know, on real corpora: the settings are what they say, and the floors are where they were measured."

import hashlib

import numpy as np
import pandas as pd
import pytest

from speaker_vgg_cct.encoders.normalization import deviation, enrolment
from speaker_vgg_cct.evaluation.baselines import (
    BASELINES,
    Heard,
    baseline_guess,
    baseline_ledgers,
    baseline_predictions,
    baseline_setting,
    enrolment_curve,
    judge_predictions,
)
from speaker_vgg_cct.evaluation.statistics import paired_test
from speaker_vgg_cct.training.leakage import setting_of

CLASSES = ['anger', 'happy', 'neutral', 'sad']


@pytest.fixture(scope='module')
def heard():
    "Three made-up corpora, whose speakers differ far more than their emotions do; `fearful` is in no class."
    rng, rows, x = np.random.default_rng(0), [], []
    moods = rng.normal(size=(5, 20))
    for c in 'ABC':
        for s in range(6):
            voice = rng.normal(size=20) * 4 + {'A': 0, 'B': 3, 'C': -3}[c]
            for i in range(50):
                emotion = [*CLASSES, 'fearful'][i % 5]
                clip = f'{c}/{s}-{i}'
                rows.append(
                    dict(
                        clip=clip,
                        path=clip,
                        corpus=c,
                        speaker=f'{c}/{s}',
                        gender='male',
                        emotion=emotion,
                        seconds=1.0,
                        sha256=hashlib.sha256(clip.encode()).hexdigest(),
                    )
                )
                x.append(voice + moods[i % 5] + 0.7 * rng.normal(size=20))
    rows, x = pd.DataFrame(rows), np.array(x)
    known, labelled = (rows.corpus != 'C').to_numpy(), rows.emotion.isin(CLASSES).to_numpy()

    def label(at):
        return rows.emotion.iloc[at].map(CLASSES.index).to_numpy()

    train, test = np.flatnonzero(known & labelled), np.flatnonzero(~known & labelled)
    return Heard(
        rows,
        {
            'voice': x,
            'layers': x[:, ::2],
            'campplus': x[:, 1::2],
            'eGeMAPS': x[:, ::-1] * np.arange(1, 21),
        },
        known,
        train,
        test,
        label(train),
        label(test),
    )


@pytest.fixture(scope='module')
def split(heard):
    parts = [(heard.train, 'train'), (heard.test, 'test')]
    split = pd.concat(
        [
            heard.rows[['clip']]
            .iloc[at]
            .assign(part=p, label=heard.rows.emotion.iloc[at], augmentation='', copy=0)
            for at, p in parts
        ],
        ignore_index=True,
    )
    split.attrs = dict(test_corpus='C')
    return split


def changed(heard, at, rng):
    "The same with other sound in some rows."
    moved = {}
    for name, x in heard.features.items():
        moved[name] = x.copy()
        moved[name][at] = rng.normal(size=x[at].shape) * 50
    return Heard(heard.rows, moved, heard.known, heard.train, heard.test, heard.labels, heard.truth)


def test_knowing_the_speaker_helps_and_more_clips_more(heard):
    curve = enrolment_curve(heard, CLASSES, ks=(0, 1, 4, None))
    uar = curve.groupby(['system', 'k'], sort=False).uar.mean().unstack()[[0, 1, 4, 'all']]
    assert (
        (uar[0] < uar[4]).all()
        and (uar[1] < uar[4]).all()
        and (uar[4] <= uar['all'] + 2).all()
        and (uar['all'] > 80).all()
    )
    assert set(curve.setting[curve.k == 0]) == {'inductive'} and set(
        curve.setting[curve.k != 0]
    ) == {'speaker-adapted'}


@pytest.mark.parametrize('system', BASELINES)
@pytest.mark.parametrize('k', [0, 3, None])
def test_the_ledger_proves_the_setting(heard, split, system, k):
    assert setting_of(baseline_ledgers(heard, system, k), split, heard.rows) == baseline_setting(
        system, k
    )


@pytest.mark.parametrize('system', BASELINES)
def test_an_answer_depends_on_its_ledger_alone(heard, system):
    "One speaker's clips are judged the same whatever the clips outside the ledger sound like, and not when those inside change."
    rng, me = np.random.default_rng(1), 'C/2'
    at = heard.rows.index.get_indexer(heard.test)
    mine = (heard.rows.speaker.iloc[at] == me).to_numpy()
    seen = {c for line in baseline_ledgers(heard, system, 3) for c in line.seen}

    def guess(h):
        return baseline_guess(h, BASELINES[system], 3)[mine]

    inside = heard.rows['clip'].isin(seen) | (heard.rows.speaker == me)
    others = (
        inside & heard.rows['clip'].isin(enrolment(heard.rows, 3)[me])
        if baseline_setting(system) == 'speaker-adapted'
        else None
    )
    assert (guess(changed(heard, ~inside.to_numpy(), rng)) == guess(heard)).all()
    if others is not None:
        kept = (
            ~heard.rows['clip'].iloc[heard.test][mine].isin(enrolment(heard.rows, 3)[me]).to_numpy()
        )
        assert (guess(changed(heard, others.to_numpy(), rng))[kept] != guess(heard)[kept]).any()


@pytest.mark.parametrize('system', BASELINES)
def test_nothing_but_training_labels_is_used(heard, system):
    "Other emotions in the manifest, other test labels: the same answers."
    rng = np.random.default_rng(2)
    other = Heard(
        heard.rows.assign(emotion=rng.permutation(heard.rows.emotion), gender='female'),
        heard.features,
        heard.known,
        heard.train,
        heard.test,
        heard.labels,
        rng.permutation(heard.truth),
    )
    for k in (2, None):
        assert (
            baseline_guess(other, BASELINES[system], k)
            == baseline_guess(heard, BASELINES[system], k)
        ).all()
    shuffled = Heard(
        heard.rows,
        heard.features,
        heard.known,
        heard.train,
        heard.test,
        rng.permutation(heard.labels),
        heard.truth,
    )
    assert (
        baseline_guess(shuffled, BASELINES[system]) != baseline_guess(heard, BASELINES[system])
    ).mean() > 0.3  # those of training are


def test_a_clip_does_not_tell_of_itself(heard):
    x, chosen = heard.features['voice'], enrolment(heard.rows, 4)
    clip = chosen['C/0'][0]
    at = heard.rows.index[heard.rows['clip'] == clip][0]
    bare = {**chosen, 'C/0': chosen['C/0'][1:]}
    np.testing.assert_allclose(
        deviation(x, heard.rows, chosen, heard.known)[at],
        deviation(x, heard.rows, bare, heard.known)[at],
    )


def test_without_enrolment_the_adapted_are_the_inductive(heard):
    for adapted, bare in (
        ('eGeMAPS, z-score by speaker + SVM', 'eGeMAPS + SVM'),
        ('speaker embedding, deviation from speaker + SVM', 'speaker embedding + SVM'),
    ):
        assert (
            baseline_guess(heard, BASELINES[adapted], 0) == baseline_guess(heard, BASELINES[bare])
        ).all()


def test_predictions_can_be_compared_in_pairs(heard):
    table = dict(tuple(baseline_predictions(heard, CLASSES).groupby('system')))
    found = paired_test(
        table['speaker embedding, deviation from speaker + SVM'], table['speaker embedding + SVM']
    )
    assert found['difference'] > 20 and found['n'] == len(heard.test)
    assert judge_predictions(table['speaker embedding + SVM'], CLASSES)['speaker embedding + SVM'][
        'uar'
    ] == pytest.approx(found['uar_against'])


def test_egemaps_of_a_real_corpus_by_its_speakers(shared, tmp_path):
    "On German, known speakers are worth points to the plainest features: read, extracted and judged from the files."
    from speaker_vgg_cct.data.corpora import read_corpora
    from speaker_vgg_cct.evaluation.baselines import store_egemaps

    manifest, _ = read_corpora(shared / 'corpora', ['EMODB', 'EMOVO'])
    rows = manifest.groupby(['speaker', 'emotion'], group_keys=False).head(2).reset_index(drop=True)
    x = store_egemaps(rows, tmp_path, jobs=2)[rows.sha256].astype(float)
    known, labelled = (rows.corpus == 'EMOVO').to_numpy(), rows.emotion.isin(CLASSES).to_numpy()
    train, test = np.flatnonzero(known & labelled), np.flatnonzero(~known & labelled)

    def label(at):
        return rows.emotion.iloc[at].map(CLASSES.index).to_numpy()

    h = Heard(rows, {'eGeMAPS': x}, known, train, test, label(train), label(test))
    systems = [s for s in BASELINES if all(b.features == 'eGeMAPS' for b in BASELINES[s])]
    uar = {
        s: m['uar']
        for s, m in judge_predictions(
            baseline_predictions(h, CLASSES, systems=systems), CLASSES
        ).items()
    }
    assert list(uar) == systems
    assert (
        uar['eGeMAPS, z-score by speaker + SVM'] > uar['eGeMAPS + SVM'] + 5
        and uar['eGeMAPS + SVM'] > 30
    )
