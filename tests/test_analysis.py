"A study's analysis on made-up cells: what is refused, what is compared with what, what choosing honestly may not see, and the pages that show it."

import re

import nbformat
import numpy as np
import pandas as pd
import pytest

from speaker_vgg_cct.core import ConfigError, LeakageError, make_rng, write_json
from speaker_vgg_cct.evaluation.statistics import compare_systems
from speaker_vgg_cct.experiments.analysis import (
    WAYS,
    calibration_table,
    cell_predictions,
    ensemble,
    inner_selection,
    paired_tests,
    read_cells,
    selection_table,
    study_tables,
)
from speaker_vgg_cct.experiments.summary import summary_table
from speaker_vgg_cct.website.report import project_root, run_pages

CLASSES = np.array(['anger', 'happy', 'sad'])
FEW = dict(permutations=99, draws=50)


def answers(corpus, skill, *names, speakers=6, each=12):
    n = speakers * each
    truth = np.tile(np.arange(3), n)[:n]
    who = np.repeat(np.arange(speakers), each)
    p = np.exp(2 * (skill * np.eye(3)[truth] + make_rng(0, corpus, *names).normal(size=(n, 3))))
    p /= p.sum(1, keepdims=True)
    return pd.DataFrame(
        {
            'clip': [f'{corpus}/{i}' for i in range(n)],
            'corpus': corpus,
            'speaker': [f'{corpus}/{w}' for w in who],
            'truth': CLASSES[truth],
            'prediction': CLASSES[p.argmax(1)],
        }
        | {f'p_{c}': p[:, i] for i, c in enumerate(CLASSES)}
    )


def add_cell(
    root,
    system,
    corpus,
    seed,
    skill=1.0,
    setting='inductive',
    group='main',
    label_hash='h',
    split_hash=None,
    metric='uar',
    **split,
):
    folder = root / system / corpus / f'seed{seed}'
    folder.mkdir(parents=True)
    rng = make_rng(seed, system, corpus)
    answers(corpus, skill, system, seed).to_csv(folder / 'predictions.csv', index=False)
    answers('TRAIN', skill, system, seed, corpus).to_csv(folder / 'validation.csv', index=False)
    pd.DataFrame(
        {
            'epoch': range(8),
            'eval_loss': rng.random(8),
            'eval_uar': rng.random(8),
            'test_uar': 100 * rng.random(8),
        }
    ).to_csv(folder / 'summary.csv', index=False)
    (folder / 'args.yaml').write_text(f'eval_metric: {metric}\n')
    write_json(
        folder / 'provenance.json',
        dict(
            system=system,
            group=group,
            setting=setting,
            label_hash=label_hash,
            split_hash=split_hash or f'{corpus}{seed}',
            split=dict(
                test_corpus=corpus,
                seed=seed,
                augmentation='no_aug',
                balance='no_balanced',
                validation=0.25,
            )
            | split,
        ),
    )
    return folder


@pytest.fixture
def study(tmp_path):
    root = tmp_path / 'study'
    for corpus in 'AB':
        for seed in (0, 1):
            for system, skill, setting, group in (
                ('ours', 1.2, 'inductive', 'main'),
                ('zeroed', 0.7, 'inductive', 'control'),
                ('ours adapted', 2.0, 'speaker-adapted', 'main'),
                ('shuffled', 1.0, 'speaker-adapted', 'control'),
            ):
                add_cell(root, system, corpus, seed, skill, setting, group)
            folder = root / 'baselines' / corpus / f'seed{seed}'
            folder.mkdir(parents=True)
            svm = answers(corpus, 0.6, 'svm')
            both = [
                svm.assign(system=n, setting=s)
                for n, s in (('SVM', 'inductive'), ('SVM, z-score', 'transductive'))
            ]
            pd.concat(both).to_csv(folder / 'baselines.csv', index=False)
            write_json(
                folder / 'provenance.json',
                dict(
                    label_hash='h',
                    split_hash=f'{corpus}{seed}',
                    split=dict(
                        test_corpus=corpus,
                        seed=seed,
                        augmentation='no_aug',
                        balance='no_balanced',
                        validation=0.25,
                    ),
                ),
            )
    return root


def test_all_cells_are_found_and_unfinished_ones_left_out(study):
    assert len(read_cells(study)) == 6 * 2 * 2
    (add_cell(study, 'running', 'A', 0) / 'predictions.csv').unlink()
    assert len(read_cells(study)) == 6 * 2 * 2


@pytest.mark.parametrize(
    'change, said',
    [
        (dict(label_hash='other'), 'more than one label map'),
        (dict(split_hash='other'), 'more than one split of one test corpus and seed'),
    ],
)
def test_a_mix_is_refused(study, change, said):
    add_cell(study, 'new', 'A', 0, **change)
    with pytest.raises(ConfigError) as e:
        read_cells(study)
    assert said in str(e.value) and 'new' in str(e.value)


def test_a_system_may_have_its_own_augmentation_and_one_label_map_can_be_asked_for(study):
    add_cell(study, 'masked', 'A', 0, split_hash='with copies', augmentation='freq_aug')
    add_cell(study, 'three classes', 'A', 0, label_hash='other', split_hash='x', balance='y')
    assert 'masked' in set(read_cells(study, 'h').system) and 'three classes' not in set(
        read_cells(study, 'h').system
    )


def by_definition(p):
    "Holm's correction in one family: of all p up to this one the largest, times the number of those that are not below it."
    return [min(1, max(q * (p >= q).sum() for q in p[p <= own])) for own in p]


def test_settings_are_never_compared_and_holm_counts_each_family(study):
    cells = read_cells(study)
    t = paired_tests(cells, ['ours', 'ours adapted'], **FEW)
    assert set(zip(t.setting, t.system, t.against)) == {
        ('inductive', 'zeroed', 'ours'),
        ('inductive', 'SVM', 'ours'),
        ('speaker-adapted', 'shuffled', 'ours adapted'),
    }
    assert t.groupby('system').corpus.agg(list).tolist() == [['all', 'A', 'B']] * 3
    for _, family in t.groupby([t.setting, t.corpus == 'all']):
        assert family.p_holm.tolist() == pytest.approx(by_definition(family.p))


def test_ablations_are_a_family_of_their_own(study):
    def found():
        return paired_tests(read_cells(study), 'ours', permutations=999, draws=50).set_index(
            ['group', 'corpus', 'system']
        )

    before = found()
    for i, skill in enumerate((0.2, 0.9, 1.0)):
        for corpus in 'AB':
            for seed in (0, 1):
                add_cell(study, f'choice {i}', corpus, seed, skill, group='ablation')
    after = found()
    explored = after.loc['ablation'].reset_index()
    pd.testing.assert_frame_equal(
        after.drop(index='ablation', level='group'), before
    )  # what the study claims is as sure as it was
    assert explored.groupby(explored.corpus == 'all').size().tolist() == [
        6,
        3,
    ]  # and the search through choices is corrected
    for _, family in explored.groupby(explored.corpus == 'all'):
        assert family.p_holm.tolist() == pytest.approx(by_definition(family.p))
    assert (explored.p_holm > explored.p).any()


def test_the_tests_are_those_of_compare(study):
    cells = read_cells(study)
    tables = {
        s: [cell_predictions(c) for c in part.itertuples()]
        for s, part in cells[cells.setting == 'inductive'].groupby('system')
    }
    want = compare_systems(tables, 'ours', **FEW).set_index('system')
    got = paired_tests(cells, 'ours', **FEW).query("corpus == 'all'").set_index('system')
    pd.testing.assert_frame_equal(got[want.columns].sort_index(), want.sort_index())


def test_only_what_both_have_is_compared(study):
    add_cell(study, 'once', 'A', 1, group='ablation')
    t = paired_tests(read_cells(study), 'ours', **FEW).query("system == 'once'")
    assert t.corpus.tolist() == ['A'] and t.seeds.tolist() == [1]


def test_a_corpus_of_one_speaker_is_left_out_aloud(study, capsys):
    for system in ('ours', 'zeroed'):
        answers('C', 1, system, speakers=1).to_csv(
            add_cell(study, system, 'C', 0) / 'predictions.csv', index=False
        )
    assert (
        'C' not in set(paired_tests(read_cells(study), 'ours', **FEW).corpus)
        and 'no test on C: one speaker' in capsys.readouterr().out
    )


def test_the_temperature_sees_validation_only(study):
    before = calibration_table(read_cells(study))[0]
    for f in study.glob('*/*/seed*/predictions.csv'):
        pd.read_csv(f).assign(truth='sad').to_csv(f, index=False)
    after = calibration_table(read_cells(study))[0]
    pd.testing.assert_series_equal(before.temperature, after.temperature)
    assert not before.ece.equals(after.ece)
    f = study / 'ours' / 'A' / 'seed0'
    pd.read_csv(f / 'predictions.csv').to_csv(f / 'validation.csv', index=False)
    with pytest.raises(LeakageError):
        calibration_table(read_cells(study))


@pytest.mark.parametrize('metric', ['uar', 'loss'])
def test_the_oracle_is_the_only_one_who_looks(study, metric):
    folder = add_cell(study, 'judged', 'A', 0, metric=metric)
    s = pd.read_csv(folder / 'summary.csv')

    def found():
        return selection_table(read_cells(study)).query("system == 'judged'").set_index('way')

    first = found()
    assert first.epoch['validation speakers'] == (
        s.eval_loss.idxmin() if metric == 'loss' else s.eval_uar.idxmax()
    )
    s.assign(test_uar=s.test_uar[::-1].to_numpy()).to_csv(folder / 'summary.csv', index=False)
    second = found()
    assert (
        first.epoch.drop('oracle') == second.epoch.drop('oracle')
    ).all() and second.epoch.oracle == 7 - first.epoch.oracle
    assert (first.gap >= 0).all() and first.gap.oracle == 0


def test_inner_rounds_choose_by_the_mean_of_epochs_that_all_have():
    inner = pd.DataFrame(
        [
            dict(system='s', test_corpus='A', seed=0, inner_corpus=c, epoch=e, uar=u)
            for c, us in {'B': [10, 40, 30, 99], 'C': [50, 10, 35]}.items()
            for e, u in enumerate(us)
        ]
    )
    full = pd.DataFrame(
        dict(system='s', test_corpus='A', seed=0, epoch=range(4), test_uar=[1.0, 2.0, 3.0, 4.0])
    )
    assert inner_selection(inner, full)[['epoch', 'inner_uar', 'uar']].iloc[0].tolist() == [
        2,
        32.5,
        3,
    ]


def test_both_ways_of_choosing_stand_in_one_table(study):
    inner = pd.DataFrame(
        [
            dict(system='ours', test_corpus='A', seed=s, inner_corpus=c, epoch=e, uar=e == 3)
            for s in (0, 1)
            for c in 'BC'
            for e in range(8)
        ]
    )
    t = selection_table(read_cells(study), inner).query("system == 'ours' and test_corpus == 'A'")
    assert (
        t.groupby('seed').way.agg(set).tolist() == [set(WAYS)] * 2
        and t[t.way == 'inner corpora'].epoch.tolist() == [3, 3]
        and t.setting.notna().all()
    )


def test_an_ensemble_is_the_mean_of_probabilities(study):
    cells = read_cells(study)
    a, b = (
        cell_predictions(c)
        for c in cells[(cells.system == 'ours') & (cells.test_corpus == 'A')].itertuples()
    )
    p = (a.filter(like='p_') + b.filter(like='p_')) / 2
    e = ensemble([a, b.sample(frac=1, random_state=0)])
    assert (
        e.filter(like='p_').to_numpy() == pytest.approx(p.to_numpy())
        and e.prediction.tolist() == CLASSES[p.to_numpy().argmax(1)].tolist()
    )
    with pytest.raises(ConfigError):
        ensemble([a, b.assign(truth='sad')])


def test_the_summary_refuses_settings_and_splits_in_one_table():
    row = dict(
        test_corpus='A',
        system='x',
        setting='inductive',
        seed=0,
        n=9,
        uar=50.0,
        uar_low=40.0,
        uar_high=60.0,
        accuracy=50.0,
        macro_f1=50.0,
        label_hash='h',
        split_hash='s',
        recall_sad=50.0,
    )
    assert (
        summary_table(pd.DataFrame([row, row | dict(seed=1, uar_low=44.0)])).loc['x', 'A']
        == '50.0 [42, 60]'
    )
    for change in (dict(setting='transductive'), dict(split_hash='t'), dict(label_hash='i')):
        with pytest.raises(ConfigError, match='not comparable'):
            summary_table(pd.DataFrame([row, row | dict(system='y') | change]))


def test_pages_show_a_study(study, tmp_path):  # what they say without one: tests/test_site.py
    for name, t in study_tables(read_cells(study), ['ours', 'ours adapted'], **FEW).items():
        t.assign(synthetic=False).to_csv(tmp_path / f'{name}.csv', index=False)
    told = {
        'comparison': ['against *ours*', 'against *ours adapted*', 'Made with label map `h`'],
        'calibration': ['→', 'speaker-adapted'],
        'selection': ['Oracle', 'Validation speakers'],
    }
    run_pages(
        {
            project_root() / 'nbs' / 'paper' / f'{page}.ipynb': tmp_path / f'{page}.ipynb'
            for page in told
        },
        [tmp_path],
    )
    for page, numbers in told.items():
        said = page_text(tmp_path / f'{page}.ipynb')
        assert all(n in said for n in numbers) and 'makes it on real speech' not in said, page


@pytest.mark.slow
def test_distances_from_the_goals_are_those_of_the_table(tmp_path):
    "On the recorded results: each cell says how far it lies from the goal above it."
    run_pages(
        {project_root() / 'nbs' / 'paper' / 'results.ipynb': tmp_path / 'page.ipynb'},
        [project_root() / 'results'],
    )
    goals, seen = None, 0
    for line in page_text(tmp_path / 'page.ipynb').splitlines():
        cells = [c.strip() for c in line.strip('|').split('|')]
        if cells[0] == 'goal':
            goals = list(map(float, cells[1:]))
        for goal, cell in zip(goals or [], cells[1:]):
            if m := re.fullmatch(r'([\d.]+) \(([+-][\d.]+)\)', cell):
                seen += 1
                assert abs(float(m[1]) - goal - float(m[2])) < 0.11, line
    assert seen >= 20


def page_text(nb):
    return '\n'.join(
        o.data.get('text/markdown', '')
        for c in nbformat.read(nb, as_version=4).cells
        for o in c.get('outputs', [])
        if 'data' in o
    )
