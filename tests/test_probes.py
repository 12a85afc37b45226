"What a model learnt: the layers that are read, probes that cannot leak, maps that add up, recall by group, and the page that shows them."

from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient

from speaker_vgg_cct.core import ConfigError, make_rng
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.split import make_split
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.evaluation.metrics import evaluate
from speaker_vgg_cct.evaluation.probes import (
    attention_profile,
    clip_maps,
    confusion_by,
    linear_probes,
    maps_of,
    recall_by,
    representations,
    run_tables,
)
from speaker_vgg_cct.features.spectrogram import picture_params
from speaker_vgg_cct.training.dataset import prepare
from speaker_vgg_cct.training.loop import (
    load_config,
    make_model,
    model_input,
    predict_logits,
    train,
)

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parent.parent / 'nbs' / 'paper' / 'learnt.ipynb'
MODELS = {
    'cct_2_7x2_112': {},
    'vit_2_4_32': {'picture_size': 32},
    'speaker_vgg_cct_end_to_end_2_7x2_112': {},
    'speaker_vgg_cct_end_to_end_speaker_token_2_7x2_112': {},
    'speaker_vgg_cct_2_7x2_112': {},
    'speaker_vgg_cct_2_7x2_112 pooling': {'fusion': 'pooling'},
    'speaker_vgg_cct_2_7x2_112 concatenation': {'fusion': 'concatenation'},
}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A split of two small synthetic corpora, and its parts."
    root = tmp_path_factory.mktemp('probes')
    manifest, _ = read_corpora(build(root / 'corpora', corpora=('SYNTH_A', 'SYNTH_C'), sentences=2))
    split = make_split(manifest, 'SYNTH_C')
    config = load_config('quick', epochs=1, warmup_epochs=0)
    model = make_model(config, 4)
    parts, pca = prepare(
        split,
        manifest,
        picture_params(config, model.img_size),
        root / 'features',
        model.speaker_dim,
    )
    return root, split, config, parts, pca


@pytest.fixture(scope='module')
def tables(made):
    root, split, config, parts, pca = made
    out = train(parts, pca, split, config, root / 'run', device='cpu', system='with speaker')
    evaluate(out, parts['test'], 'cpu')
    return run_tables(out, parts)


@pytest.mark.parametrize('name', MODELS)
def test_each_model_is_read_where_it_decides(made, name):
    *_, parts, _ = made
    config = load_config('quick', model=name.split()[0], **MODELS[name])
    model = make_model(config, 4)
    test = parts['test']
    reps = representations(model, test, config)
    assert list(reps) == ['speaker vector'] * model.takes_speaker + ['picture'] + [
        'emotion token'
    ] * hasattr(model.classifier, 'blocks_scnd_level') + ['representation']
    assert all(x.dtype == np.float32 and len(x) == len(test) for x in reps.values())
    fc = model.classifier.fc
    by_hand = reps['representation'] @ fc.weight.detach().numpy().T + fc.bias.detach().numpy()
    np.testing.assert_allclose(by_hand, predict_logits(model, test, config), atol=1e-4)
    inputs, _ = model_input(test[list(range(len(test)))], model, config, 'cpu')
    with torch.no_grad():
        np.testing.assert_allclose(
            reps['picture'], model.eval().tokenizer(inputs[0]).mean(1), atol=1e-5
        )
    if model.takes_speaker:
        np.testing.assert_array_equal(reps['speaker vector'], test.speaker)
    assert not any(m._forward_hooks for m in model.modules())


def test_what_comes_before_the_speaker_does_not_know_it(made):
    *_, parts, _ = made
    test = parts['test']
    other = replace(test, speaker=test.speaker[::-1].copy())
    for name in ('speaker_vgg_cct_end_to_end_2_7x2_112', 'speaker_vgg_cct_2_7x2_112'):
        config = load_config('quick', model=name)
        model = make_model(config, 4)
        a, b = representations(model, test, config), representations(model, other, config)
        same = {k: np.allclose(a[k], b[k], atol=1e-6) for k in a}
        assert (
            not same.pop('speaker vector') and not same.pop('representation') and all(same.values())
        )


def test_hooks_go_even_if_the_model_fails(made):
    _, _, config, parts, _ = made
    model = make_model(config, 4)
    with pytest.raises(ConfigError):
        representations(model, replace(parts['test'], speaker=parts['test'].speaker[:, :5]), config)
    assert not any(m._forward_hooks for m in model.modules())


def people(speakers=10, clips=12):
    who = np.repeat(np.arange(speakers), clips)
    n = len(who)
    return pd.DataFrame(
        {
            'speaker': [f'A/{w}' for w in who],
            'emotion': np.array(['anger', 'happy', 'neutral', 'sad'])[np.arange(n) % 4],
            'gender': np.where(who % 2, 'male', 'female'),
            'corpus': np.where(who % 4 < 2, 'A', 'B'),
            'sentence': [f's{i % 6}' for i in range(n)],
        }
    )


def test_a_probe_of_noise_is_at_chance_however_wide():
    m, uar = people(), []
    for seed in range(4):
        uar.append(
            linear_probes(
                {'x': make_rng(seed, 'noise').normal(size=(len(m), 200))}, m, seed=seed
            ).set_index('target')[['uar', 'shuffled', 'floor']]
        )
    mean = pd.concat(uar).groupby('target').mean()
    assert ((mean.uar - mean.floor).abs() < 15).all() and (
        (mean.shuffled - mean.floor).abs() < 15
    ).all()


def test_who_speaks_does_not_give_the_emotion_away():
    "Each speaker is sad only or angry only: by heart the probe would be right, of strangers it is not."
    m = people()
    m['emotion'] = np.where(np.arange(len(m)) // 12 % 4 < 2, 'anger', 'sad')
    known = np.eye(10)[np.arange(len(m)) // 12]
    t = linear_probes({'speaker': known}, m, ['emotion', 'speaker']).set_index('target').uar
    assert t['emotion'] < 60 and t['speaker'] == 100


def test_sentences_are_kept_apart_from_who_speaks():
    "A representation of the sentence alone, where each speaker says one sentence more often: clips held out would tell."
    m = people(6)
    x = np.eye(6)[m.sentence.astype('category').cat.codes]
    t = linear_probes({'sentence': x}, m, ['speaker'])
    assert t.held.item() == 'sentences' and t.uar.item() < 30
    t = linear_probes({'sentence': x}, m.assign(sentence=None), ['speaker'])
    assert t.held.item() == 'clips'
    t = linear_probes({'sentence': x}, m.assign(sentence=m.speaker), ['speaker'])
    assert t.held.item() == 'clips'  # one sentence each: none could be held out


def test_what_cannot_be_asked_is_left_out_with_a_line(capsys):
    m = people()
    x = make_rng(0).normal(size=(len(m), 3))
    assert set(linear_probes({'x': x}, m.assign(corpus='A', gender=None)).target) == {
        'emotion',
        'speaker',
    }
    said = capsys.readouterr().out
    assert 'corpus: not asked' in said and 'gender: not asked' in said
    half = linear_probes({'x': x}, m.assign(gender=m.gender.where(m.corpus == 'A')), ['gender'])
    assert half.n.item() == (m.corpus == 'A').sum()


@pytest.mark.parametrize('name', MODELS)
def test_weights_of_all_tokens_add_up_to_one(made, name):
    *_, parts, _ = made
    config = load_config('quick', model=name.split()[0], **MODELS[name])
    model = make_model(config, 4)
    t = attention_profile(model, parts['test'], config)
    sums = t[t.kind != 'fusion'].groupby(['kind', 'class']).weight.sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    assert (t.weight >= -1e-6).all()
    pools = name.startswith(('cct', 'speaker_vgg_cct_2', 'speaker_vgg_cct_end_to_end_2'))
    second = name.startswith('speaker_vgg_cct_2')
    assert set(t.kind) == {'attention'} | ({'pooling'} if pools else set()) | (
        {'fusion'} if second else set()
    )
    off = (
        {'class'}
        if name.startswith('vit')
        else {'speaker'}
        if name.startswith('speaker')
        else set()
    )
    assert set(t.onto) == {'picture'} | off and t[t.onto != 'picture'].row.isna().all()
    assert all(m.shape == model.grid for m in maps_of(t, 'attention').values())


def test_the_profile_is_the_mean_over_the_clips_of_a_class(made):
    _, _, config, parts, _ = made
    model = make_model(config, 4)
    test = parts['test']
    pooled = clip_maps(model, *model_input(test[list(range(len(test)))], model, config, 'cpu')[0])[
        'pooling', 'picture'
    ][0].numpy()
    for c, m in maps_of(attention_profile(model, test, config)).items():
        np.testing.assert_allclose(m, pooled[test.rows.label == c].mean(0), atol=1e-6)


def test_groups_and_counts_agree():
    rng = make_rng(0, 'groups')
    n = 400
    classes = ['anger', 'happy', 'sad']
    m = people(20, 20)
    p = m[['speaker', 'gender', 'corpus']].assign(
        seconds=rng.gamma(4, 0.5, n),
        truth=rng.choice(classes, n),
        prediction=rng.choice(classes, n),
        **{f'p_{c}': 1 / 3 for c in classes},
    )
    for by in ('gender', 'corpus'):
        t, c = recall_by(p, by), confusion_by(p, by)
        assert c.n.sum() == n and len(c) == 2 * 9
        for r in t[t['class'] != 'UAR'].to_dict('records'):
            own = c[(c.group == r['group']) & (c.truth == r['class'])].set_index('prediction').n
            assert (
                r['recall'] == pytest.approx(100 * own[r['class']] / own.sum(), abs=1e-3)
                and r['n'] == own.sum()
                and r['low'] <= r['recall'] <= r['high']
            )
        for _g, part in t.groupby('group'):
            assert part[part['class'] == 'UAR'].recall.item() == pytest.approx(
                part[part['class'] != 'UAR'].recall.mean(), abs=1e-3
            )
    t = recall_by(p, 'seconds', 5)
    whole = t[t['class'] == 'UAR']
    assert whole.n.tolist() == [80] * 5
    ends = [[float(v) for v in g.split(' ')[0].split('–')] for g in whole.group]
    assert ends == sorted(ends)
    with pytest.raises(ConfigError, match='age'):
        recall_by(p, 'age')


def test_tables_of_a_run(made, tables):
    _, split, _, parts, _ = made
    for t in tables.values():
        assert list(t)[:5] == ['system', 'setting', 'test_corpus', 'seed', 'synthetic'] and t.iloc[
            0, :5
        ].tolist() == ['with speaker', 'inductive', 'SYNTH_C', 0, True]
    t = tables['probes'].set_index(['representation', 'target'])
    assert {'emotion', 'speaker', 'corpus', 'gender'} == set(t.index.levels[1])
    assert (
        t.n['picture', 'corpus'] == len(split)
        and t.n['picture', 'emotion'] == len(parts['test'])
        and t.uar['picture', 'corpus'] > 70
    )
    assert tables['confusions'].query("by == 'gender'").n.sum() == len(parts['test'])


def page_of(results):
    nb = nbformat.read(PAGE, as_version=4)
    at = next(c for c in nb.cells if 'parameters' in c.metadata.get('tags', []))
    at.source = f'results = {[str(r) for r in results]!r}'
    NotebookClient(
        nb,
        kernel_name='python3',
        startup_timeout=600,
        resources={'metadata': {'path': str(PAGE.parent)}},
    ).execute()
    data = [o.get('data', {}) for c in nb.cells for o in c.get('outputs', [])]
    return '\n'.join(d.get('text/markdown', '') for d in data), sum('image/png' in d for d in data)


def test_page_shows_settings_apart(tables, tmp_path):
    for name, t in tables.items():
        t = t.assign(synthetic=False)
        other = t.assign(seed=1, **({'uar': 31.25} if name == 'probes' else {}))
        adapted = t.assign(setting='speaker-adapted', system='deviation')
        if name == 'probes':
            adapted = adapted.assign(uar=77.77)
        pd.concat([t, other, adapted]).to_csv(tmp_path / f'{name}.csv', index=False)
    text, pictures = page_of([tmp_path])
    assert pictures >= 8
    first, second = (
        text.index('### with speaker, inductive'),
        text.index('### deviation, speaker-adapted'),
    )
    assert (
        '77.8' not in text[first:second]
        and '77.8' in text[second:]
        and 'seeds of each: 2.' in text[first:second]
        and 'yet' not in text
    )
    mean = (
        tables['probes'].query("target == 'emotion' and representation == 'picture'").uar.item()
        + 31.25
    ) / 2
    assert f'{mean:.1f} [' in text[first:second]


def test_page_without_results_says_how_to_get_them(tables, tmp_path):
    text, pictures = page_of([tmp_path])
    assert text.count('speaker-vgg-cct study') == 4 and not pictures
    for name, t in tables.items():
        t.to_csv(tmp_path / f'{name}.csv', index=False)  # synthetic voices only
    assert page_of([tmp_path])[0].count('speaker-vgg-cct study') == 4
