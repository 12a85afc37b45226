"The comparison of encoders: rates that are known beforehand, probes that cannot leak, and the experiment from corpora to its table."

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from papermill.exceptions import PapermillExecutionError
from scipy.stats import norm

from speaker_vgg_cct.core import ConfigError, CorpusError, get_task, make_rng
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.encoders.speaker import VGGVoxNet, save_vggvox
from speaker_vgg_cct.evaluation.embeddings import (
    FLOOR,
    QUANTITIES,
    compare_encoders,
    eer,
    embeddings,
    equal_error_rate,
    probe,
    similarities,
    spectrum,
    trials,
)

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / 'nbs' / 'experiments' / 'encoders.ipynb'


def made_up(speakers=8, clips=12, corpora=2):
    "A manifest without files: emotions in turn, speakers of alternating gender."
    rows = [
        (
            f'{c}/{s}-{i}',
            c,
            f'{c}/{s}',
            ('anger', 'happy', 'neutral', 'sad')[i % 4],
            ('female', 'male')[s % 2],
        )
        for c in 'AB'[:corpora]
        for s in range(speakers)
        for i in range(clips)
    ]
    return pd.DataFrame(rows, columns=['clip', 'corpus', 'speaker', 'emotion', 'gender']).assign(
        sha256=lambda m: m['clip'], path='no file'
    )


@pytest.mark.parametrize('d', [0, 0.5, 1, 2, 3])
def test_rate_of_two_normal_distributions(d):
    rng = make_rng(0, 'normal', d)
    assert equal_error_rate(rng.normal(d, 1, 50000), rng.normal(0, 1, 70000)) == pytest.approx(
        100 * norm.cdf(-d / 2), abs=0.4
    )


def test_rate_at_the_ends():
    assert equal_error_rate([0.9, 0.8, 0.7], [0.1, 0.6]) == 0
    assert equal_error_rate([0.1], [0.9, 0.8]) == pytest.approx(100)
    x = make_rng(0).normal(size=400)
    assert equal_error_rate(x, x) == pytest.approx(50) == equal_error_rate([1, 1], [1, 1, 1])


def test_rate_is_where_the_two_errors_meet():
    "Against the plainest way: try each similarity as the threshold."
    for seed in range(20):
        rng = make_rng(seed, 'brute')
        same, different = (
            rng.normal(1, 1, 60).round(1),
            rng.normal(0, 1, 90).round(1),
        )  # rounded: with ties
        errors = np.array(
            [
                ((same < t).mean(), (different >= t).mean())
                for t in np.r_[np.unique(np.r_[same, different]), np.inf]
            ]
        )
        after = np.argmax(errors[:, 0] >= errors[:, 1])
        (a, b), (c, d) = errors[after - 1], errors[after]
        assert 100 * min(a, d) - 1e-9 <= equal_error_rate(same, different) <= 100 * max(b, c) + 1e-9
        assert equal_error_rate(-different, -same) == pytest.approx(
            equal_error_rate(same, different)
        )  # seen from the other side


def test_trials_are_pairs_within_a_corpus():
    m = made_up()
    pairs = trials(m, 200)
    assert (m.corpus[pairs.a].to_numpy() == m.corpus[pairs.b].to_numpy()).all() and (
        pairs.a != pairs.b
    ).all()
    assert (
        pairs.same == (m.speaker[pairs.a].to_numpy() == m.speaker[pairs.b].to_numpy())
    ).all() and pairs.groupby(['corpus', 'same']).size().max() <= 208
    assert trials(m, 200).equals(pairs) and not trials(m, 200, seed=1).equals(pairs)
    twice = pd.concat(
        [m, m.assign(clip=m['clip'] + ' again')], ignore_index=True
    )  # the same samples: no pairs among themselves
    assert len(trials(twice, 10**6)) == len(trials(m, 10**6))
    sizes = trials(
        pd.concat([m, made_up(3, 40, 1).assign(corpus='C')]), 200
    )  # one corpus's pairs do not depend on the others
    assert (
        sizes[sizes.corpus == 'A']
        .reset_index(drop=True)
        .equals(pairs[pairs.corpus == 'A'].reset_index(drop=True))
    )


def test_similarity_takes_the_recording_off():
    m = made_up()
    x = make_rng(0).normal(size=(len(m), 9))
    pairs = trials(m, 100)
    moved = x + 50 * make_rng(1).normal(size=(2, 9))[(m.corpus == 'A').astype(int)]
    np.testing.assert_allclose(
        similarities(x, pairs, m.corpus), similarities(moved, pairs, m.corpus), atol=1e-9
    )


def test_an_interval_needs_speakers_and_holds_its_value():
    m = made_up()
    rng = make_rng(0, 'interval')
    x = rng.normal(size=(16, 6))[pd.factorize(m.speaker)[0]] + rng.normal(size=(len(m), 6))
    pairs = trials(m, 500)
    s = similarities(x, pairs, m.corpus)
    at = (pairs.corpus == 'A').to_numpy()
    value, low, high = eer(pairs[at], s[at])
    assert (
        low <= value <= high
        and high > low
        and value == pytest.approx(equal_error_rate(s[at & pairs.same], s[at & ~pairs.same]))
    )
    few = made_up(4, corpora=1)
    pairs = trials(few, 500)
    assert np.isnan(eer(pairs, make_rng(0).normal(size=len(pairs)))[1:]).all()


def test_a_probe_of_held_out_speakers_cannot_leak():
    "A label that belongs to the speaker, and says nothing else, is at chance for new speakers, and known of old ones."
    new, old = [], []
    for seed in range(12):
        rng = make_rng(seed, 'leak')
        who = np.repeat(np.arange(16), 12)
        x = rng.normal(size=(16, 20))[who] + 0.2 * rng.normal(size=(192, 20))
        label = rng.permutation(np.arange(16) % 2)[who]
        new.append(probe(x, label, who)['value'])
        old.append(probe(x, label, who, unseen=False)['value'])
    assert abs(np.mean(new) - 50) < 12 and np.mean(old) > 95


def test_a_probe_finds_what_is_there():
    rng = make_rng(0, 'there')
    who, label = np.repeat(np.arange(10), 20), np.tile(np.arange(4), 50)
    p = probe(3 * rng.normal(size=(4, 12))[label] + rng.normal(size=(200, 12)), label, who)
    assert (
        p['low'] <= p['value'] <= p['high']
        and p['low'] > 90
        and (p['chance'], p['n'], p['speakers']) == (25, 200, 10)
    )
    nothing = probe(rng.normal(size=(200, 12)), label, who)
    assert nothing['low'] < 25 < nothing['high']


def test_the_spectrum_ends_where_the_embedding_does():
    x = make_rng(0).normal(size=(100, 4)) @ make_rng(1).normal(size=(4, 30))
    s = spectrum(x)
    assert (np.diff(s) >= -1e-9).all() and s[3] == pytest.approx(100) and s[2] < 99.99


def test_errors_say_what_to_do(tmp_path):
    m = made_up()
    with pytest.raises(
        CorpusError, match='A: verification needs two speakers.*Leave this corpus out'
    ):
        trials(m[m.speaker == 'A/0'])
    with pytest.raises(CorpusError, match='needs two speakers, and two clips'):
        compare_encoders({'x': np.zeros((8, 3))}, made_up(8, 1, 1))
    with pytest.raises(ConfigError, match='0 and 2 pairs'):
        equal_error_rate([], [1, 2])
    with pytest.raises(ConfigError, match='two classes'):
        probe(np.zeros((4, 2)), ['a'] * 4, list('abab'))
    with pytest.raises(ConfigError, match='one speaker'):
        probe(np.zeros((4, 2)), list('aabb'), list('xxyy'))
    with pytest.raises(ConfigError, match="Did you mean 'vggvox'"):
        embeddings(m, tmp_path, ['vgg-vox'])
    with pytest.raises(ConfigError, match='needs a weights file'):
        embeddings(m, tmp_path, ['vggvox'])
    with pytest.raises(ConfigError, match='brings its own'):
        embeddings(m, tmp_path, ['resemblyzer'], {'resemblyzer': 'x.h5'})
    with pytest.raises(ConfigError, match='other clips'):
        compare_encoders({'x': np.zeros((3, 3))}, m)


def test_what_cannot_be_asked_stays_in_the_table_with_the_reason():
    m = made_up().assign(gender=None, emotion='sad')
    t = compare_encoders(
        {'x': make_rng(0).normal(size=(len(m), 5))}, m, pairs=trials(m, 100)
    ).set_index(['corpus', 'quantity'])
    assert (
        t.note['A', 'uar_emotion'] == 'a probe needs two classes'
        and t.note['A', 'eer_crossed_emotion'] == 'no pairs of both kinds'
    )
    assert (
        t.value.unstack()
        .loc[['A', 'B'], ['uar_emotion', 'uar_gender', 'eer_same_gender']]
        .isna()
        .all(axis=None)
        and t.value['A', 'eer'] > 0
    )


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    "Corpora too small for some of the questions: four speakers, each emotion once."
    return build(
        tmp_path_factory.mktemp('encoders') / 'corpora',
        corpora=('SYNTH_A', 'SYNTH_B'),
        speakers=4,
        sentences=1,
    )


def run(tmp_path, **parameters):
    papermill.execute_notebook(
        str(NOTEBOOK),
        str(tmp_path / 'page.ipynb'),
        parameters={'out': str(tmp_path / 'out'), 'pairs': 300, 'jobs': 1} | parameters,
        kernel_name='python3',
        cwd=str(tmp_path),
        progress_bar=False,
        start_timeout=600,
    )
    return (tmp_path / 'page.ipynb').read_text()


def said(page):
    return ' '.join(
        o.data['text/markdown']
        for c in nbformat.reads(page, 4).cells
        for o in c.get('outputs', ())
        if 'text/markdown' in o.get('data', {})
    )


def test_experiment(small, tmp_path):
    torch.manual_seed(0)
    save_vggvox(VGGVoxNet(), tmp_path / 'random.safetensors')

    def recorded():
        return {f: f.read_bytes() for f in (ROOT / 'results').rglob('*') if f.is_file()}

    committed = recorded()
    page = run(tmp_path, corpora=str(small), weights=str(tmp_path / 'random.safetensors'), seed=3)
    assert recorded() == committed  # synthetic voices stay out of the repository's results
    t = pd.read_csv(
        tmp_path / 'out' / 'results' / 'encoders.csv',
        dtype={'weights': str},
        keep_default_na=False,
        na_values={'value': [''], 'low': ['']},
    )
    assert (
        set(t.encoder) == {'resemblyzer', 'vggvox', FLOOR}
        and set(t.corpus) == {'SYNTH_A', 'SYNTH_B', 'all'}
        and set(t.quantity) <= set(QUANTITIES)
    )
    assert (
        set(t.seed) == {3}
        and set(t.label_hash) == {get_task('4').hash}
        and set(t.synthetic.astype(str)) == {'True'}
        and set(t.corpora) == {'SYNTH_A+SYNTH_B'}
    )
    assert (t[t.encoder == 'vggvox'].weights.str.len() == 16).all() and (
        t[t.encoder != 'vggvox'].weights == ''
    ).all()
    assert t.low[t.corpus != 'all'].isna().all()  # four speakers are too few for an interval
    once = t[(t.quantity == 'eer_same_emotion')]
    assert once.value.isna().all() and (once.note == 'no pairs of both kinds').all()
    assert (
        'The voices on this page are synthetic' in page
        and page.count('image/png') == 4
        and 'nan' not in said(page)
    )


def test_experiment_again_in_other_words(small, tmp_path):
    "One corpus by name: its pairs and numbers do not depend on the other corpus; again adds nothing."
    both, _ = read_corpora(small)
    known = embeddings(both, tmp_path / 'out' / 'features', jobs=1)
    wanted = (
        compare_encoders(known, both, pairs=trials(both, 300))
        .set_index(['encoder', 'corpus', 'quantity'])
        .value
    )
    for _ in range(2):
        run(tmp_path, corpora=str(small), names='SYNTH_B', results=str(tmp_path / 'kept'))
    t = pd.read_csv(tmp_path / 'kept' / 'encoders.csv')
    assert not t.duplicated(['encoder', 'corpus', 'quantity']).any()
    for r in t[(t.corpus == 'SYNTH_B') & t.value.notna()].itertuples():
        assert r.value == pytest.approx(wanted[r.encoder, r.corpus, r.quantity], abs=1e-3)


@pytest.mark.parametrize(
    'wrong, said',
    [({'encoders': 'vggvox'}, 'needs a weights file'), ({'names': 'SYNTH_C'}, 'SYNTH_C')],
)
def test_experiment_stops_with_a_reason_and_keeps_nothing(small, tmp_path, wrong, said):
    with pytest.raises(PapermillExecutionError, match=said):
        run(tmp_path, corpora=str(small), **wrong)
    assert not list(tmp_path.rglob('encoders.csv'))
