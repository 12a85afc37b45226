"Every number that is reported, against an answer that can be written down; and the labels and splits of the presets, pinned."

from math import comb, log, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from speaker_vgg_cct.core import get_task
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.split import make_split, split_hash
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.encoders.normalization import (
    deviation,
    speaker_means,
    training_habit,
    voice_habit,
)
from speaker_vgg_cct.evaluation import calibration
from speaker_vgg_cct.evaluation import embeddings as encoders
from speaker_vgg_cct.evaluation import metrics as evaluate
from speaker_vgg_cct.evaluation import statistics as compare
from speaker_vgg_cct.training.loop import load_config

close = pytest.approx
GUARDED = set()


def guards(*functions):
    "Notes which functions a test holds to account."
    GUARDED.update(f.__name__ for f in functions)
    return lambda test: test


def table(truth, p, speakers=None, corpus='A'):
    "Predictions in the form of `predictions.csv`, of classes x and y, where `p` is the probability of y."
    names = np.array(['x', 'y'])
    p = np.asarray(p, float)
    return pd.DataFrame(
        {
            'clip': [f'{corpus}/{i}' for i in range(len(p))],
            'corpus': corpus,
            'speaker': speakers or [f'{corpus}/s{i}' for i in range(len(p))],
            'emotion': names[truth],
            'truth': names[truth],
            'prediction': names[(p > 0.5).astype(int)],
            'p_x': 1 - p,
            'p_y': p,
        }
    )


@guards(evaluate.metrics)
def test_metrics():
    m = evaluate.metrics([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 1, 0], 'abc')
    assert [m[f'recall_{c}'] for c in 'abc'] == [75, 100, 0]
    precision, recall = [3 / 4, 2 / 3, 0], [3 / 4, 1, 0]
    f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precision, recall)]
    assert m == {
        'accuracy': close(500 / 7, abs=1e-3),
        'macro_precision': close(100 * np.mean(precision), abs=1e-3),
        'macro_recall': close(100 * np.mean(recall), abs=1e-3),
        'macro_f1': close(100 * np.mean(f1), abs=1e-3),
        **{f'micro_{k}': close(500 / 7, abs=1e-3) for k in ('precision', 'recall', 'f1')},
        'uar': close(100 * np.mean(recall), abs=1e-3),
        'recall_a': 75,
        'recall_b': 100,
        'recall_c': 0,
    }


@guards(evaluate.floors)
def test_floors():
    f = evaluate.floors([0, 0, 1], [0, 1, 1, 1], ['a', 'b'])
    assert (
        f['chance']['uar'] == 50 and f['majority']['uar'] == 50 and f['majority']['accuracy'] == 25
    )
    assert f['chance']['macro_f1'] == close(
        100 * np.mean([2 * 0.25 * 0.5 / 0.75, 2 * 0.75 * 0.5 / 1.25]), abs=1e-3
    )


@guards(evaluate.expanded_tail)
@pytest.mark.parametrize('n, corpora', [(4, 1), (10, 1), (10, 2), (23, 1)])
def test_expanded_tail(n, corpora):
    "What makes the percentile interval of a mean as wide as Student's: the normal quantile of its tail, times the shrunken spread, is Student's quantile."
    tail = evaluate.expanded_tail(n, corpora)
    df = n - corpora
    assert norm.ppf(tail) * sqrt(df / n) == close(student.ppf(0.025, df))


@guards(evaluate.bootstrap_uar, evaluate.judge)
def test_bootstrap_of_speakers_who_are_all_right_or_all_wrong():
    "With one clip of each of two classes a speaker, k of n right speakers: the UAR of a draw is binomial, its quantiles are known."
    n, k = 12, 6
    truth, speakers = np.tile([0, 1], n), np.repeat(np.arange(n), 2)
    guess = np.where(speakers < k, truth, 1 - truth)
    low, high = evaluate.bootstrap_uar(truth, guess, speakers, 2, draws=40000)
    mass = np.cumsum([comb(n, i) * 0.5**n for i in range(n + 1)])
    tail = evaluate.expanded_tail(n)
    assert low == close(100 * np.searchsorted(mass, tail) / n, abs=100 / n / 100) and high == close(
        100 - low, abs=1e-3
    )
    m = evaluate.judge(truth, guess, speakers, 'ab')
    assert (m['uar'], m['n'], m['speakers']) == (50, 24, 12) and m['uar_low'] < 50 < m['uar_high']


@guards(compare.uar_weights)
def test_uar_weights():
    facts = pd.DataFrame({'corpus': list('AAABB'), 'truth': list('xxyxy')})
    assert compare.uar_weights(facts) == close([12.5, 12.5, 25, 25, 25])


@guards(compare.permutation_p)
@pytest.mark.parametrize('n', [2, 5, 9])
def test_permutation(n):
    "All speakers better by the same: only one arrangement in 2^n is as good, and one as bad. One better, the others alike: nothing is known."
    assert compare.permutation_p(np.ones(n), np.zeros(n)) == close(2 / 2**n)
    assert compare.permutation_p([1] + [0] * (n - 1), np.zeros(n)) == 1
    assert compare.permutation_p(np.arange(1, n + 1), np.zeros(n)) == close(2 / 2**n)


@guards(compare.answers, compare.pair, compare.bootstrap_difference, compare.paired_test)
def test_paired_test():
    "Two speakers who gain 100 points and two who gain none."
    truth, speakers = [0, 1] * 4, [f'A/{i // 2}' for i in range(8)]
    ours, theirs = (
        table(truth, [0, 1] * 4, speakers),
        table(truth, [0, 1, 0, 1, 1, 0, 1, 0], speakers),
    )
    found = compare.paired_test(ours, theirs, draws=40000)
    assert (
        found['uar'],
        found['uar_against'],
        found['difference'],
        found['n'],
        found['speakers'],
        found['corpora'],
        found['seeds'],
    ) == (close(100), close(50), close(50), 8, 4, 1, 1)
    assert found['p'] == close(
        4 / 16 * 2
    )  # of 2^4 arrangements the two who differ are aligned in half
    assert found['d'] == close(0.5 / np.std([0, 0, 1, 1], ddof=1))
    mass, tail = np.cumsum([comb(4, i) / 16 for i in range(5)]), evaluate.expanded_tail(4)
    assert (found['low'], found['high']) == (
        close(25 * np.searchsorted(mass, tail), abs=1),
        close(100 - 25 * np.searchsorted(mass, tail), abs=1),
    )


@guards(compare.add_holm)
def test_holm():
    assert compare.add_holm(pd.DataFrame({'p': [0.04, 0.01, 0.03]})).p_holm.tolist() == close(
        [0.06, 0.03, 0.06]
    )


@guards(compare.compare_systems)
def test_comparisons_are_corrected_together():
    truth, speakers = [0, 1] * 6, [f'A/{i // 2}' for i in range(12)]
    right, wrong = table(truth, [0, 1] * 6, speakers), table(truth, [1, 0] * 6, speakers)
    t = compare.compare_systems({'a': right, 'b': wrong, 'c': wrong}, against='a')
    assert t.p.tolist() == close([2 / 64] * len(t)) and t.p_holm.max() == close(4 / 64)


@guards(calibration.reliability, calibration.ece)
def test_reliability():
    p = [[0.6, 0.4]] * 5 + [[0.9, 0.1]] * 10
    labels = [0] * 3 + [1] * 2 + [0] * 5 + [1] * 5
    t = calibration.reliability(p, labels, bins=10)
    assert (
        t.accuracy.tolist() == close([60, 50])
        and t.confidence.tolist() == close([60, 90])
        and t.n.tolist() == [5, 10]
    )
    assert calibration.ece(p, labels, bins=10) == close((5 * 0 + 10 * 40) / 15)


@guards(calibration.brier, calibration.nll, calibration.apply_temperature, calibration.as_logits)
def test_scores_of_probabilities():
    p = np.array([[0.8, 0.2], [0.3, 0.7]])
    assert calibration.brier(p, [0, 0]) == close((0.2**2 * 2 + 0.7**2 * 2) / 2)
    assert calibration.nll(calibration.as_logits(p), [0, 0]) == close(-(log(0.8) + log(0.3)) / 2)
    assert calibration.apply_temperature(np.log(p), 2)[0, 0] == close(
        sqrt(0.8) / (sqrt(0.8) + sqrt(0.2))
    )
    assert calibration.as_logits(p)[:, 0] - calibration.as_logits(p)[:, 1] == close(
        [log(4), log(3 / 7)]
    )


@guards(calibration.familiar_distance)
def test_familiar_is_what_nearly_all_validation_clips_are():
    assert calibration.familiar_distance(pd.DataFrame({'distance': np.arange(101.0)})) == close(95)


@guards(calibration.fit_temperature)
@pytest.mark.parametrize('margin, right', [(2.0, 0.75), (5.0, 0.75), (1.0, 0.9), (0.5, 0.6)])
def test_temperature(margin, right):
    "Two classes, always the same margin, right so often: the likeliest temperature makes the sigmoid of the margin that share."
    labels = (np.arange(100) >= 100 * right).astype(int)
    assert calibration.fit_temperature(np.tile([margin, 0.0], (100, 1)), labels) == close(
        margin / log(right / (1 - right)), rel=1e-3
    )


@guards(calibration.risk_coverage, calibration.aurc, calibration.at_coverage)
def test_risk_coverage():
    "Sure and right, less sure and wrong, least sure and right."
    curve = calibration.risk_coverage([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1])
    assert (
        curve.risk.tolist() == close([0, 50, 100 / 3])
        and curve.coverage.tolist() == close([100 / 3, 200 / 3, 100])
        and curve.uar.tolist() == close([100, 50, 75])
    )
    assert calibration.aurc(curve) == close((0 + 50 + 100 / 3) / 3)
    assert calibration.at_coverage(curve, (100, 70, 50)).n.tolist() == [3, 2, 1]


@guards(calibration.read_probabilities, calibration.calibrate, calibration.calibration_scores)
def test_calibrated_table():
    "Validation says that a margin of log 9 is right three times of four, so 90 % become 75 %."
    truth = [0] * 75 + [1] * 25
    validation, test = table(truth, [0.1] * 100, corpus='V'), table(truth, [0.1] * 100, corpus='T')
    mended, temperature, ledger = calibration.calibrate(validation, test)
    assert (
        temperature == close(log(9) / log(3), rel=1e-3)
        and mended.p_x.iloc[0] == close(0.75, abs=1e-3)
        and ledger.labelled
    )
    s = calibration.calibration_scores(mended)
    assert (s['confidence'], s['accuracy'], s['uar'], s['ece']) == (
        close(75, abs=0.1),
        75,
        50,
        close(0, abs=0.1),
    )
    assert s['brier'] == close(2 * (0.75 * 0.0625 + 0.25 * 0.5625), abs=1e-2) and s['nll'] == close(
        -(0.75 * log(0.75) + 0.25 * log(0.25)), abs=1e-3
    )


@guards(encoders.equal_error_rate)
def test_equal_error_rate():
    assert (
        encoders.equal_error_rate([2, 3], [0, 1]) == 0
        and encoders.equal_error_rate([0, 1], [2, 3]) == 100
    )
    assert encoders.equal_error_rate([1, 3], [0, 2]) == close(50)
    assert encoders.equal_error_rate([1, 2, 3, 4], [0, 1.5, -1, -2]) == close(25)


@guards(training_habit, voice_habit, speaker_means, deviation)
def test_deviation_from_a_voice():
    "The training mean counts as one more clip of a voice; a clip does not count for its own."
    rows = pd.DataFrame({'clip': list('abcd'), 'speaker': list('ssuu'), 'corpus': 'A'})
    x, known = np.array([[1.0], [3], [4], [8]]), np.array([True, True, False, False])
    base, within = training_habit(x, rows, known)
    assert (base[0], within[0]) == (2, 2)
    assert [v[0] for v in voice_habit(np.array([[3.0], [6]]), np.zeros(1), np.ones(1))] == close(
        [9 / 3, sqrt((4.5 + 1) / 2)]
    )
    assert [v[0] for v in voice_habit(np.zeros((0, 1)), base, within)] == close([2, sqrt(2)])
    enrolled = {'s': ['a', 'b'], 'u': ['c', 'd']}
    mean, scale = speaker_means(x, rows, enrolled, known)
    assert mean[2:, 0].tolist() == close([2 + (8 - 2) / 2, 2 + (4 - 2) / 2]) and scale[
        2:, 0
    ].tolist() == close([sqrt(2)] * 2)
    assert deviation(x, rows, enrolled, known)[2:, 0].tolist() == close([-1, 5]) and deviation(
        x, rows, enrolled, known, scale=True
    )[3, 0] == close(5 / sqrt(2))


TO_HOLD = {
    f
    for m in (evaluate, compare, calibration)
    for f in m.__all__
    if callable(getattr(m, f)) and not f.startswith(('plot', 'save'))
} - {'predictions', 'answer', 'validate', 'evaluate'}  # these four hand on what `judge` says


def test_no_number_is_left_out():
    assert TO_HOLD <= GUARDED, TO_HOLD - GUARDED


PINNED = {  # preset → digest of its options; held-out synthetic corpus → digest of the split. Another value means other results under the same name
    'quick': '210061e1dc2222fa',
    'cpu': '3b6f1a95e20db702',
    'paper': '87a4535b02b7d438',
}
SPLITS = {
    ('SYNTH_A', 'undersampling'): 'df9dca668f286d24',
    ('SYNTH_A', 'no_balanced'): 'df9dca668f286d24',
    ('SYNTH_B', 'undersampling'): '3a2d0eecb7afcf11',
    ('SYNTH_B', 'no_balanced'): 'c0e6c46881b1ee43',
    ('SYNTH_C', 'undersampling'): '2562d4827f1ad4d2',
    ('SYNTH_C', 'no_balanced'): '32c8eac4f118827f',
}


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
    return read_corpora(build(tmp_path_factory.mktemp('pins') / 'corpora', sentences=1))[0].loc[
        lambda t: t.index % 5 > 0
    ]  # so that classes are not equally frequent


def test_labels_are_pinned():
    assert {n: get_task(n).hash for n in ('4', '3', 'all')} == {
        '4': 'c967edf8b5dd1419',
        '3': 'ac14d8cf339b2d91',
        'all': '76b1af4a1bba192f',
    }


def test_presets_are_pinned():
    assert {p: load_config(p).hash for p in PINNED} == PINNED


def test_splits_are_pinned(manifest):
    "As the presets are run by `experiment` (undersampled) and by `study` (as they are)."
    assert {(c, b): split_hash(make_split(manifest, c, balance=b)) for c, b in SPLITS} == SPLITS
