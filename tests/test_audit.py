"Planted leaks of each kind are caught, and what is shipped is clean."

import io

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr

from speaker_vgg_cct.core import ConfigError, LeakageError
from speaker_vgg_cct.data.audio import SAMPLE_RATE, load_audio, samples_hash
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.split import describe_shared, make_split, shared_recordings
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.features.spectrogram import PictureParams
from speaker_vgg_cct.training.dataset import prepare
from speaker_vgg_cct.training.leakage import (
    CHECKS,
    SAME,
    Ledger,
    alike,
    check,
    fingerprint,
    full_audit,
    ledger_table,
    mark_recordings,
    run_ledgers,
    same_recordings,
    setting_of,
)

PAIRS = ('train and validation', 'train and test', 'validation and test')


def resampled(y, rate):
    return soxr.resample(soxr.resample(y, SAMPLE_RATE, rate), rate, SAMPLE_RATE)


def coded(y, **how):  # through a file and back
    f = io.BytesIO()
    sf.write(f, y, SAMPLE_RATE, **how)
    f.seek(0)
    return sf.read(f, dtype='float32')[0]


COPIES = {
    'flac': lambda y: coded(y * 0.7, format='FLAC', subtype='PCM_16'),
    'ogg': lambda y: coded(y, format='OGG', subtype='VORBIS'),
    '8bit': lambda y: coded(0.9 * y / np.abs(y).max(), format='WAV', subtype='PCM_U8'),
    '8k': lambda y: resampled(y, 8000),
    '44k1': lambda y: resampled(y, 44100),
    'cut50ms': lambda y: y[800:],
    'cut_end': lambda y: y[:-2500],
    'softer': lambda y: y * 0.5,
    'late7ms': lambda y: np.pad(y, (112, 0)),
    'all': lambda y: coded(resampled(y[811:] * 0.5, 8000), format='OGG', subtype='VORBIS'),
}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Synthetic corpora: the folder and the manifest."
    root = tmp_path_factory.mktemp('audit')
    build(root / 'corpora', sentences=2, jobs=1)
    return root, read_corpora(root / 'corpora', jobs=1)[0]


def plant(manifest, root, y, corpus, name, like=None):
    "The manifest with one more clip: `y`, said to be of a speaker of `corpus`."
    host = (
        manifest[(manifest.corpus == corpus) & (manifest.emotion == 'sad')].iloc[0]
        if like is None
        else like
    )
    file = root / f'{name}.wav'
    sf.write(file, y, SAMPLE_RATE, subtype='FLOAT')
    row = host.to_dict() | dict(
        clip=f'{corpus}/{name}', path=str(file), sha256=samples_hash(load_audio(file))
    )
    return pd.concat([manifest, pd.DataFrame([row])], ignore_index=True)


def test_the_shipped_protocol_is_clean(made):
    root, manifest = made
    for corpus in manifest.corpus.unique():
        for task in ('3', '4', 'all'):
            split = make_split(manifest, corpus, task, augmentation='freq_aug')
            table = check(full_audit(split, manifest, root / 'features', jobs=1))
            assert len(table) == len(CHECKS) * len(PAIRS) and set(table.parts) == set(PAIRS)
            assert (
                not table[table.check != 'sentence'].shared.any() and table.attrs['allowed'] == []
            )
            assert not table[
                (table.check == 'sentence') & table.parts.str.endswith('test')
            ].shared.any()  # corpora share no sentence
            assert setting_of(run_ledgers(split), split, manifest) == 'inductive'


@pytest.mark.parametrize('kind', COPIES)
def test_a_copy_is_caught(made, kind):
    "A clip of the test corpus, altered, stands in a training corpus under another name and speaker."
    root, manifest = made
    for corpus, victim in (
        manifest[manifest.emotion == 'sad']
        .groupby('corpus')
        .nth(1)
        .set_index('corpus')['clip']
        .items()
    ):
        host = next(c for c in manifest.corpus.unique() if c != corpus)
        y = load_audio(manifest.set_index('clip').path[victim])
        planted = plant(manifest, root, COPIES[kind](y), host, f'{kind}-of-{corpus}')
        split = make_split(
            planted, corpus, balance='no_balanced'
        )  # the manifest alone does not show it
        table = full_audit(split, planted, root / 'features', jobs=1)
        leaks = table[table.verdict == 'leak']
        assert leaks.check.tolist() == ['near_identical'] and leaks.shared.tolist() == [1]
        with pytest.raises(LeakageError, match='near_identical') as e:
            check(table)
        assert (
            victim in str(e.value)
            and f'{host}/{kind}-of-{corpus}' in str(e.value)
            and "allow=('near_identical',)" in str(e.value)
        )
        passed = check(
            full_audit(split, planted, root / 'features', allow=['near_identical'], jobs=1)
        )
        assert passed.attrs['allowed'] == ['near_identical'] and 'allowed' in set(passed.verdict)


def test_identical_samples_under_another_name(made):
    "`make_split` leaves them out; a split made before the manifest knew is caught too, and listening does not count them again."
    root, manifest = made
    victim = manifest[(manifest.corpus == 'SYNTH_C') & (manifest.emotion == 'anger')].iloc[0]
    planted = plant(manifest, root, load_audio(victim.path), 'SYNTH_A', 'identical')
    apart = make_split(planted, 'SYNTH_C', balance='no_balanced')
    assert apart.attrs['left_out'] == ['SYNTH_A/identical'] and 'SYNTH_A/identical' not in set(
        apart['clip']
    )
    split = make_split(manifest, 'SYNTH_C', balance='no_balanced')
    speaker = manifest.set_index('clip').speaker
    planted.loc[planted.index[-1], 'speaker'] = speaker[
        split['clip'][split.part == 'train'].iloc[0]
    ]
    split = pd.concat(
        [split, split[split.part == 'train'].iloc[:1].assign(clip='SYNTH_A/identical')],
        ignore_index=True,
    )
    table = full_audit(split, planted, root / 'features', jobs=1)
    assert table[table.verdict == 'leak'][['check', 'parts', 'shared']].values.tolist() == [
        ['identical', 'train and test', 1]
    ]
    assert not table[table.check == 'near_identical'].shared.any()


def test_recordings_of_two_speakers_never_lie_in_two_parts(made):
    "Cut and quieter copies under the names of other speakers, within a corpus and across: every split passes the audit, and says what it did."
    root, manifest = made
    a, b = (
        manifest[(manifest.corpus == c) & (manifest.emotion == 'sad')].iloc[0]
        for c in ('SYNTH_A', 'SYNTH_C')
    )
    planted = plant(manifest, root, load_audio(a.path)[800:] * 0.5, 'SYNTH_A', 'within')
    planted.loc[planted.index[-1], 'speaker'] = sorted(
        set(manifest[manifest.corpus == 'SYNTH_A'].speaker) - {a.speaker}
    )[0]
    planted = plant(planted, root, load_audio(b.path) * 0.4, 'SYNTH_B', 'across')
    marked = mark_recordings(planted, root / 'features', '4', jobs=1)
    assert [set(c) for c in shared_recordings(marked).clips] == [
        {a['clip'], 'SYNTH_A/within'},
        {b['clip'], 'SYNTH_B/across'},
    ]
    for corpus in ('SYNTH_A', 'SYNTH_B', 'SYNTH_C'):
        for seed in range(3):
            split = make_split(marked, corpus, balance='no_balanced', seed=seed)
            check(full_audit(split, marked, root / 'features', jobs=1))
            left, joined = split.attrs.get('left_out', []), split.attrs.get('joined_speakers', [])
            assert left == (['SYNTH_B/across'] if corpus == 'SYNTH_C' else [b['clip']])
            assert len(joined) == (
                corpus != 'SYNTH_A'
            ) and 'under the names of several speakers' in describe_shared(split, marked)


def test_a_speaker_and_a_clip_in_two_parts(made):
    root, manifest = made
    split = make_split(manifest, 'SYNTH_B')
    moved = split.copy()
    moved.loc[moved.index[moved.part == 'train'][0], 'part'] = 'test'
    table = full_audit(moved, manifest, root / 'features', jobs=1)
    assert table[table.verdict == 'leak'][['check', 'parts']].values.tolist() == [
        ['speaker', 'train and test']
    ]
    twice = pd.concat(
        [split, split[split.part == 'test'].iloc[:1].assign(part='train')], ignore_index=True
    )
    table = full_audit(twice, manifest, root / 'features', jobs=1)
    assert set(table[table.verdict == 'leak'].check) == {'clip', 'speaker', 'identical'}
    with pytest.raises(LeakageError) as e:
        check(table)
    assert str(e.value).count('\n') >= 4  # a line for each leak
    check(
        full_audit(
            twice, manifest, root / 'features', allow=('clip', 'speaker', 'identical'), jobs=1
        )
    )
    with pytest.raises(ConfigError, match="Did you mean 'identical'"):
        full_audit(split, manifest, root / 'features', allow=('identicl',))


def test_takes_are_no_copies(made):
    "The same voices saying the same sentences with other emotions: no two clips of the built corpora are one recording."
    root, manifest = made
    assert len(same_recordings(manifest, root / 'features', jobs=1)) == 0
    quiet = plant(
        manifest,
        root,
        np.random.default_rng(0).normal(0, 1e-4, 16000).astype(np.float32),
        'SYNTH_A',
        'silent',
    )
    short = plant(
        quiet, root, load_audio(manifest.path[0])[4000:8000], 'SYNTH_B', 'short'
    )  # too short to judge
    assert len(same_recordings(short, root / 'features', jobs=1)) == 0


def test_a_part_of_a_long_recording_is_found(made):
    root, manifest = made
    ys = [load_audio(p) for p in manifest.path[:6]]
    long = np.concatenate(ys)
    found = alike(np.stack([fingerprint(long), *map(fingerprint, ys)]))
    assert len(found) >= 5 and set(found.a) == {0}
    starts = np.cumsum([0] + [len(y) for y in ys])
    for r in found.itertuples():
        assert abs(-r.shift_ms - starts[r.b - 1] / 16) <= 10


def test_ledgers_of_real_projections(made):
    root, manifest = made
    split = make_split(manifest, 'SYNTH_C')
    for fit_on, setting in (('train', 'inductive'), ('all', 'transductive')):
        pca = prepare(
            split,
            manifest,
            PictureParams(layout='mel', size=32),
            root / 'features',
            32,
            fit_on=fit_on,
            jobs=1,
        )[1]
        table = ledger_table(run_ledgers(split, pca), split, manifest).set_index('transform')
        assert (
            table.setting['speaker PCA']
            == setting
            == pca.setting
            == setting_of(run_ledgers(split, pca), split, manifest)
        )
        assert (table.held_out['speaker PCA'] > 0) == (fit_on == 'all')
    tested = tuple(split['clip'][split.part == 'test'])
    with pytest.raises(LeakageError, match='saw the labels'):
        setting_of([Ledger('calibration', tested, True)], split, manifest)
    assert (
        setting_of(
            [Ledger('calibration', tuple(split['clip'][split.part == 'validation']), True)],
            split,
            manifest,
        )
        == 'inductive'
    )


def test_the_real_corpora_are_clean(shared, tmp_path):
    "Every leave-one-corpus-out split; the only copies are of a speaker's own clips, so they lie in one part."
    everything = mark_recordings(read_corpora(shared / 'corpora')[0], tmp_path)
    for (
        corpus
    ) in everything.corpus.unique():  # URDU has a recording under the names of two speakers
        check(full_audit(make_split(everything, corpus), everything, tmp_path))
    assert {'URDU/SF1_F4_H04', 'URDU/SF4_F3_H019'} <= set(
        everything['clip'][everything.recording.duplicated(keep=False)]
    )
    manifest = (
        everything[everything.corpus.isin(['EMODB', 'EMOVO', 'NEMO', 'RAVDESS'])]
        .drop(columns='recording')
        .reset_index(drop=True)
    )
    pairs = same_recordings(manifest, tmp_path)
    speaker = manifest.set_index('clip').speaker
    assert (speaker[pairs.clip_a].to_numpy() == speaker[pairs.clip_b].to_numpy()).all()
    assert (
        pairs[['clip_a', 'clip_b']].values.tolist() == [['EMOVO/tri-f3-n1', 'EMOVO/tri-f3-n2']]
        and pairs.errors.max() < SAME / 3
    )
    for corpus in manifest.corpus.unique():
        split = make_split(manifest, corpus)
        table = check(full_audit(split, manifest, tmp_path))
        assert set(table[table.check != 'sentence'].verdict) == {'clean'}
        assert not table[
            (table.check == 'sentence') & table.parts.str.endswith('test')
        ].shared.any()
