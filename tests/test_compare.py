"The comparison of systems against enumeration by hand, and the ways in which runs really differ."

from itertools import product

import numpy as np
import pandas as pd
import pytest

from speaker_vgg_cct.core import ConfigError, make_rng
from speaker_vgg_cct.evaluation.statistics import add_holm, compare_systems, paired_test

CLASSES = np.array(['anger', 'happy', 'sad'])


def made_up(skill, system, corpora=(('A', 4, 30), ('B', 3, 12)), seeds=2):
    "Tables of a system, one a corpus and seed; classes and speakers are of uneven size, and the last speaker of each corpus is never sad."
    tables = []
    for corpus, speakers, each in corpora:
        rng = make_rng(0, 'truth', corpus)
        n = speakers * each
        who = np.sort(rng.integers(0, speakers, n))
        truth = rng.choice(3, n, p=[0.5, 0.3, 0.2])
        truth[(who == speakers - 1) & (truth == 2)] = 0
        for seed in range(seeds):
            luck = make_rng(seed, system, corpus).random(n)
            guess = np.where(
                luck < skill + 0.2 * np.sin(who * 7 + len(system)), truth, (truth + 1) % 3
            )
            tables.append(
                pd.DataFrame(
                    {
                        'clip': [f'{corpus}/{i}' for i in range(n)],
                        'corpus': corpus,
                        'speaker': [f'{corpus}/{w}' for w in who],
                        'truth': CLASSES[truth],
                        'prediction': CLASSES[guess],
                    }
                )
            )
    return tables


def uar(tables):
    "By hand: the mean of recalls of each table, averaged over tables."
    return 100 * np.mean(
        [np.mean([(c.prediction == k).mean() for k, c in t.groupby('truth')]) for t in tables]
    )


@pytest.fixture(scope='module')
def systems():
    return {
        'ours': made_up(0.7, 'ours'),
        'theirs': made_up(0.55, 'theirs'),
        'third': made_up(0.55, 'third one'),
    }


def test_p_is_that_of_every_exchange(systems):
    "All 2^7 ways to exchange the answers of whole speakers, each scored anew from the tables."
    a, b = systems['ours'], systems['theirs']
    speakers = sorted({s for t in a for s in t.speaker})
    observed, reached = uar(a) - uar(b), 0
    for swap in product([False, True], repeat=len(speakers)):
        change = {s for s, yes in zip(speakers, swap) if yes}
        mixed = [
            [
                x.assign(prediction=x.prediction.where(~x.speaker.isin(change), y.prediction))
                for x, y in zip(*pair)
            ]
            for pair in ((a, b), (b, a))
        ]
        reached += abs(uar(mixed[0]) - uar(mixed[1])) >= abs(observed) - 1e-9
    found = paired_test(a, b)
    assert (
        found['difference'] == pytest.approx(observed)
        and found['uar'] == pytest.approx(uar(a))
        and found['uar_against'] == pytest.approx(uar(b))
    )
    assert found['p'] == pytest.approx(reached / 2 ** len(speakers)) and found['p'] < 1
    assert (found['speakers'], found['corpora'], found['seeds'], found['n']) == (
        7,
        2,
        2,
        4 * 30 + 3 * 12,
    )


def test_order_does_not_matter(systems):
    a, b = systems['ours'], systems['theirs']
    shuffled = [t.sample(frac=1, random_state=1) for t in (b[2], b[0], b[3], b[1])]
    assert paired_test(a, shuffled) == paired_test(a, b)

    def named(tables):
        return [t.assign(seed=5 + i % 2) for i, t in enumerate(tables)]

    assert paired_test(named(a), named(b)[::-1]) == paired_test(
        a, b
    )  # matched by the column, not by order


def test_more_seeds_are_not_more_speakers(systems):
    "The same training ten times over is no more evidence than once."
    a, b = ([t for t in systems[s][::2]] for s in ('ours', 'theirs'))
    once, often = paired_test(a, b), paired_test(a * 10, b * 10)
    assert (
        often.pop('seeds') == 10
        and once.pop('seeds') == 1
        and np.isnan(once.pop('seed_sd'))
        and often.pop('seed_sd') == pytest.approx(0)
    )
    assert often == pytest.approx(once)


def test_a_system_without_seeds_meets_each(systems):
    a, b = systems['ours'], systems['theirs'][::2]
    assert paired_test(a, b)['seeds'] == 2 and paired_test(a, b)['difference'] == pytest.approx(
        uar(a) - uar(b)
    )


def test_random_exchanges_come_near_to_all(systems):
    a, b = systems['ours'], systems['third']
    exact, drawn = (
        paired_test(a, b, permutations=128)['p'],
        [paired_test(a, b, permutations=100, seed=s)['p'] for s in range(20)],
    )
    assert len(set(drawn)) > 1 and np.mean(drawn) == pytest.approx(exact, abs=0.03)
    assert paired_test(a, b, permutations=100, seed=3) == paired_test(
        a, b, permutations=100, seed=3
    )


@pytest.mark.parametrize(
    'p, family, want',
    [
        ([0.2], 'x', [0.2]),
        (
            [0.01, 0.04, 0.03, 0.005],
            'xxxx',
            [0.03, 0.06, 0.06, 0.02],
        ),  # 3 x .01, no less than the one before, 2 x .03, 4 x .005
        ([0.02, 0.02, 0.02], 'xxx', [0.06, 0.06, 0.06]),
        ([0.6, 0.001, 0.7], 'xxx', [1, 0.003, 1]),  # no more than 1
        ([0.01, 0.04, 0.03, 0.005], 'xyxy', [0.02, 0.04, 0.03, 0.01]),  # two families of two
        ([0.01, 0.04, 0.03, 0.005], 'xyyy', [0.01, 0.06, 0.06, 0.015]),
    ],
)  # one tested alone, three together
def test_p_holm_by_hand(p, family, want):
    table = pd.DataFrame({'family': list(family), 'p': p, 'd': 0})
    found = add_holm(table, ['family'])
    assert (
        found.p_holm.tolist() == pytest.approx(want)
        and found.columns.tolist() == ['family', 'p', 'p_holm', 'd']
        and 'p_holm' not in table
    )
    pd.testing.assert_frame_equal(add_holm(found, ['family']), found)


def test_all_systems_against_one_are_one_family(systems):
    t = compare_systems(systems, 'theirs').sort_values('p')
    low, high = t.p
    assert t.p_holm.tolist() == pytest.approx(
        [min(2 * low, 1), max(high, min(2 * low, 1))]
    ) and t.corpus.tolist() == ['all', 'all']


def test_tables_read_back_are_compared_the_same(systems, tmp_path):
    written = {}
    for system, tables in systems.items():
        for i, t in enumerate(tables):
            t.to_csv(tmp_path / f'{system}-{i}.csv', index=False)
        written[system] = [pd.read_csv(tmp_path / f'{system}-{i}.csv') for i in range(len(tables))]
    pd.testing.assert_frame_equal(
        compare_systems(written, 'theirs'), compare_systems(systems, 'theirs')
    )


@pytest.mark.parametrize(
    'change, said',
    [
        (lambda t: t.assign(truth=t.truth.replace({'happy': 'positive'})), '`truth`'),
        (lambda t: t.assign(speaker=t.speaker + 'x'), '`speaker`'),
        (lambda t: t.iloc[1:], 'their clips'),
        (
            lambda t: t.assign(prediction=t.prediction.where(t.index > 0)),
            "has gaps or lacks columns (got ['prediction'])",
        ),
        (
            lambda t: t.assign(seed=[7 if c == 'A' else 8 for c in t.corpus]),
            'not every clip was answered under every seed',
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(systems, change, said):
    with pytest.raises(ConfigError) as e:
        compare_systems(systems | {'changed': [change(t) for t in systems['ours'][::2]]}, 'ours')
    assert said in str(e.value) and 'changed' in str(e.value)
