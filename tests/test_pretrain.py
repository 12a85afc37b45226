"Pretraining: what it makes loads everywhere, is better than a guess, resumes exactly, and tells whom it has heard."

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import speaker_vgg_cct.training.pretrain as module
from speaker_vgg_cct.core import ConfigError, LeakageError, SplitError
from speaker_vgg_cct.data.audio import load_audio
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.split import make_split
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.features.spectrogram import picture_params
from speaker_vgg_cct.models.cct import SIZES
from speaker_vgg_cct.models.speaker_cct import SPEAKER_CCTS
from speaker_vgg_cct.training.dataset import prepare
from speaker_vgg_cct.training.leakage import (
    checkpoint_ledger,
    load_ledgers,
    run_ledgers,
    setting_of,
)
from speaker_vgg_cct.training.loop import load_config, make_model, train
from speaker_vgg_cct.training.pretrain import (
    CONTOUR_FUNCTIONALS,
    FunctionalsTarget,
    MaskedTarget,
    contour_functionals,
    plain_config,
    pretrain,
    rectangles,
    speech,
    unlabelled,
)

pytestmark = pytest.mark.slow

TARGETS = ['masked', 'functionals']
MODELS = ['cct_2_7x2_112', *(n for n in SPEAKER_CCTS if '_2_' in n)]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('pretrain')
    build(root / 'corpora', sentences=1, speakers=4, jobs=1)
    return root, read_corpora(root / 'corpora', jobs=1)[0]


def quick(**options):
    return load_config('quick', **{'epochs': 4, 'warmup_epochs': 1, 'lr': 2e-3, **options})


@pytest.fixture(scope='module')
def products(place):
    root, manifest = place
    return {
        t: pretrain(
            manifest,
            quick(),
            root / 'features',
            root / t,
            t,
            leave_out=('SYNTH_C',),
            device='cpu',
            jobs=1,
        )
        for t in TARGETS
    }


@pytest.mark.parametrize('target', TARGETS)
def test_better_than_the_mean_on_speakers_that_it_did_not_learn_from(products, target):
    h = pd.read_csv(products[target].parent / 'pretrain.csv')
    assert list(h.epoch) == [0, 1, 2, 3] and h.held_out_loss.min() < 0.95 * h.mean_loss[0]
    made = json.loads((products[target].parent / 'provenance.json').read_text())
    learned = {c for c in load_ledgers(products[target].parent / 'ledger.json')[0].clips}
    assert made['held_out'] and made['target'] == target and made['clips'] == len(learned)


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('target', TARGETS)
def test_every_entry_of_the_transformer_is_loaded(products, name, target):
    config = quick(model=name, initial_checkpoint=str(products[target]))
    model, given = make_model(config, 4, start=True), load_file(products[target])
    what = model.loaded.set_index('entry').what
    for k in given:
        if k.startswith(('tokenizer.', 'classifier.blocks.')):
            assert what[k] == 'loaded' and torch.equal(model.state_dict()[k], given[k])
    assert what['classifier.fc.weight'] == what['classifier.fc.bias'] == 'new'
    allowed = {'loaded', 'renamed', 'resized', 'new'} | (
        {'left'} if 'speaker_token' in name else set()
    )
    assert set(what) <= allowed
    assert given['classifier.fc.weight'].shape == (0, SIZES[2].width)


def test_a_training_starts_from_it(place, products):
    root, manifest = place
    split = make_split(manifest, 'SYNTH_C', validation=0.5)
    config = quick(
        model='cct_2_7x2_112', epochs=1, warmup_epochs=0, initial_checkpoint=str(products['masked'])
    )
    parts, pca = prepare(
        split, manifest, picture_params(config, (112, 112)), root / 'features', 0, jobs=1
    )
    made = json.loads(
        (
            train(parts, pca, split, config, root / 'tuned', device='cpu') / 'provenance.json'
        ).read_text()
    )
    assert made['start']['file'] == 'checkpoint.safetensors' and made['start']['new'] == 2
    assert (
        made['config_hash']
        != quick(
            model='cct_2_7x2_112',
            epochs=1,
            warmup_epochs=0,
            initial_checkpoint=str(products['functionals']),
        ).hash
    )


def test_the_left_out_corpus_is_in_no_ledger_under_any_name(place, products, tmp_path):
    root, manifest = place
    known = checkpoint_ledger(products['masked'])
    assert (
        known.clips
        and not known.labelled
        and {c.split('/')[0] for c in known.clips} == {'SYNTH_A', 'SYNTH_B'}
    )
    shutil.copytree(root / 'corpora' / 'SYNTH_C' / 'audio', tmp_path / 'mine' / 'somebody')
    mine = unlabelled(tmp_path / 'mine', jobs=1)
    assert set(mine.speaker) == {'mine/somebody'} and set(mine.columns) == {
        'clip',
        'path',
        'corpus',
        'speaker',
        'seconds',
        'sha256',
    }
    assert set(speech(pd.concat([manifest, mine]), 'SYNTH_C').corpus) == {'SYNTH_A', 'SYNTH_B'}


@pytest.mark.parametrize(
    'held_out, setting', [('SYNTH_C', 'inductive'), ('SYNTH_A', 'transductive')]
)
def test_what_the_weights_know_decides_the_setting(place, products, tmp_path, held_out, setting):
    _, manifest = place
    split = make_split(manifest, held_out, validation=0.5)
    moved = shutil.copy(
        products['functionals'], tmp_path / 'renamed.safetensors'
    )  # its ledger goes with it
    assert (
        setting_of([*run_ledgers(split), checkpoint_ledger(moved, manifest)], split, manifest)
        == setting
    )
    other = manifest.assign(
        **{c: manifest[c].str.replace('SYNTH_', 'RENAMED_') for c in ('clip', 'corpus', 'speaker')}
    )
    split = make_split(other, held_out.replace('SYNTH_', 'RENAMED_'), validation=0.5)
    assert setting_of([checkpoint_ledger(moved, other)], split, other) == setting


def test_weights_from_elsewhere_have_no_ledger(place, products, tmp_path):
    save_file({'x': torch.zeros(1)}, tmp_path / 'x.safetensors')
    (tmp_path / 'broken.safetensors').write_bytes(b'?' * 100)
    torch.save({'x': torch.zeros(1)}, tmp_path / 'x.pth')
    assert [
        checkpoint_ledger(tmp_path / f)
        for f in ('x.safetensors', 'broken.safetensors', 'x.pth', 'nowhere.safetensors')
    ] == [None] * 4


@pytest.mark.parametrize(
    'moment, call', [('_step_epoch', 2), ('save_state', 2), ('_save_weights', 1)]
)
def test_interrupted_anywhere_it_ends_the_same(place, tmp_path, monkeypatch, moment, call):
    root, manifest = place

    def go(name):
        return pretrain(
            manifest,
            quick(epochs=3),
            root / 'features',
            tmp_path / name,
            'functionals',
            leave_out='SYNTH_C',
            device='cpu',
            jobs=1,
        )

    whole, calls = getattr(module, moment), []

    def stop(*a, **k):
        calls.append(0)
        if len(calls) == call:
            raise KeyboardInterrupt
        return whole(*a, **k)

    monkeypatch.setattr(module, moment, stop)
    with pytest.raises(KeyboardInterrupt):
        go('cut')
    monkeypatch.setattr(module, moment, whole)
    cut, alone = go('cut'), go('alone')
    for f in ('checkpoint.safetensors', 'resume.safetensors'):
        a, b = (load_file(p.parent / f) for p in (cut, alone))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    a, b = (pd.read_csv(p.parent / 'pretrain.csv').drop(columns='seconds') for p in (cut, alone))
    pd.testing.assert_frame_equal(a, b)
    before = cut.stat().st_mtime_ns
    assert go('cut').stat().st_mtime_ns == before  # it had ended: nothing is done again


def test_it_can_go_on_from_another_pretraining_and_tells_of_both(place, products, tmp_path):
    root, manifest = place
    again = quick(
        epochs=1, warmup_epochs=0, sampling='corpora', initial_checkpoint=str(products['masked'])
    )
    both = pretrain(
        manifest,
        again,
        root / 'features',
        tmp_path / 'both',
        'functionals',
        leave_out=(),
        device='cpu',
        jobs=1,
    )
    assert set(checkpoint_ledger(both).clips) == set(manifest['clip'])
    with pytest.raises(LeakageError, match='know clips of a corpus that is to be left out'):
        pretrain(
            manifest,
            again,
            root / 'features',
            tmp_path / 'no',
            leave_out='SYNTH_A',
            device='cpu',
            jobs=1,
        )
    with pytest.raises(LeakageError):  # nor under another name
        other = manifest.assign(
            **{
                c: manifest[c].str.replace('SYNTH_A', 'OTHER')
                for c in ('clip', 'corpus', 'speaker')
            }
        )
        pretrain(
            other,
            again,
            root / 'features',
            tmp_path / 'no',
            leave_out='OTHER',
            device='cpu',
            jobs=1,
        )


@pytest.mark.parametrize(
    'error, match, change',
    [
        (ConfigError, "unknown target.*Did you mean 'functionals'", dict(target='functional')),
        (ConfigError, 'at most 0.75', dict(hide=1.0)),
        (SplitError, "corpus to leave out.*Did you mean 'SYNTH_A'", dict(leave_out=['SYNTHA'])),
        (SplitError, 'no clip is left', dict(leave_out=['SYNTH_A', 'SYNTH_B', 'SYNTH_C'])),
        (SplitError, 'between 0 and 1', dict(validation=1.0)),
        (ConfigError, 'exceeds the number of clips', dict(batch_size=1000)),
    ],
)
def test_errors_name_value_and_remedy(place, tmp_path, error, match, change):
    root, manifest = place
    config = quick(batch_size=change.pop('batch_size', 16))
    with pytest.raises(error, match=match) as e:
        pretrain(
            manifest,
            config,
            root / 'features',
            tmp_path,
            **{'leave_out': 'SYNTH_C', 'device': 'cpu', 'jobs': 1, **change},
        )
    assert e.value.remedy


def test_a_folder_belongs_to_one_pretraining(place, products):
    root, manifest = place

    def go(config, **k):
        return pretrain(
            manifest,
            config,
            root / 'features',
            products['masked'].parent,
            **{'leave_out': 'SYNTH_C', 'device': 'cpu', 'jobs': 1, **k},
        )

    with pytest.raises(ConfigError, match='another config_hash'):
        go(quick(lr=1e-4))
    for change in (dict(target='functionals'), dict(hide=0.4), dict(validation=0.5)):
        with pytest.raises(ConfigError, match='another data_hash'):
            go(quick(), **change)


@pytest.mark.parametrize('name', ['cct_2_3x2_32', 'cvt_2_4_32', 'vit_2_4_32', 'cct_4_3x2_32_sine'])
def test_every_kind_of_the_family_learns_both(name):
    config = quick(model=name)
    net = make_model(config, 1)
    batch = (
        torch.randint(0, 256, (4, 32, 32), dtype=torch.uint8),
        torch.randn(4, 5),
        torch.zeros(4, dtype=torch.long),
    )
    batch[1][0, 0] = torch.nan  # what could not be measured
    for target, n in (
        (MaskedTarget(net, config, 0, 0.5), None),
        (FunctionalsTarget(net, config, 5), 19),
    ):
        error, mean, asked = target(batch, np.random.default_rng(0))
        error.backward()
        assert torch.isfinite(error) and mean >= 0 and (asked == n if n else asked > 0)
        assert (
            torch.isfinite(net.tokenizer.conv_layers[0][0].weight.grad).all()
            and net.tokenizer.conv_layers[0][0].weight.grad.abs().sum() > 0
        )


def test_only_what_is_hidden_counts_and_only_what_is_shown_is_seen():
    config = plain_config(quick())
    target = MaskedTarget(make_model(config, 1), config, 0, 0.5).eval()
    hidden = torch.from_numpy(rectangles(3, target.net.grid, 0.5, np.random.default_rng(5)))
    blot = torch.nn.functional.interpolate(hidden[:, None].float(), target.net.img_size)[
        :, 0
    ].bool()
    a = torch.randint(0, 256, (3, 112, 112), dtype=torch.uint8)
    b = torch.where(blot, torch.zeros_like(a), a)

    def say(x):
        return target.predict(
            target.picture((x, torch.zeros(3, 0), torch.zeros(3, dtype=torch.long))),
            np.random.default_rng(5),
        )

    assert torch.equal(say(a)[0], say(b)[0]) and torch.equal(say(a)[1][..., 0], hidden.flatten(1))


def test_egemaps_can_be_told_as_well(place, tmp_path):
    from speaker_vgg_cct.evaluation.baselines import store_egemaps

    root, manifest = place
    file = pretrain(
        manifest,
        quick(epochs=1, warmup_epochs=0),
        root / 'features',
        tmp_path / 'egemaps',
        'functionals',
        leave_out='SYNTH_C',
        functionals=store_egemaps,
        device='cpu',
        jobs=1,
    )
    assert (
        load_file(tmp_path / 'egemaps' / 'resume.safetensors')['model/decoder.weight'].shape[0]
        == 88
        and file.is_file()
    )


def test_pitch_of_real_voices(shared):
    manifest, _ = read_corpora(shared / 'corpora', names=['EMODB'], jobs=1)
    neutral = manifest[manifest.emotion == 'neutral'].groupby('speaker').head(2)
    x = pd.DataFrame(
        [contour_functionals(load_audio(p)) for p in neutral.path], columns=CONTOUR_FUNCTIONALS
    )
    by = 2 ** x['pitch mean'].groupby(neutral.gender.to_numpy()).median()
    assert 90 < by['male'] < 150 and 170 < by['female'] < 250 and x.notna().all(axis=None)
