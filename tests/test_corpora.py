"The importers against real corpora: labels read from file names equal the labels that were made independently of us."

import csv
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from typer.testing import CliRunner

from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import CorpusError
from speaker_vgg_cct.data import corpora
from speaker_vgg_cct.data.corpora import (
    find_corpora,
    label_counts,
    load_manifest,
    read_corpora,
    read_labels,
    save_manifest,
)

CORPORA = ('EMODB', 'EMOVO', 'RAVDESS', 'NEMO')
UPSTREAM = {
    'EMODB': lambda r: 'wav',
    'EMOVO': lambda r: r['speaker'],
    'RAVDESS': lambda r: f"Actor_{r['speaker']}",
    'NEMO': lambda r: 'samples',
}


def metadata(shared, name):
    "Rows of a corpus's metadata.csv, with `stem` and the speaker as in the manifest."
    with open(shared / 'corpora' / name / 'metadata.csv', encoding='utf-8') as f:
        rows = list(csv.DictReader(f))
    return [{**r, 'stem': r['file'].split('/')[-1].rsplit('.', 1)[0]} for r in rows]


def lay_out(shared, name, to, folder):
    "Links the clips of a corpus into `to`, each into the subfolder that `folder` says, without metadata.csv."
    for r in metadata(shared, name):
        f = to / folder(r) / f"{r['stem']}.flac"
        f.parent.mkdir(parents=True, exist_ok=True)
        f.symlink_to(shared / 'corpora' / name / r['file'])


def same_labels(shared, name, labels):
    want = {
        (f"{name}/{r['stem']}", r['emotion'], f"{name}/{r['speaker']}", r['gender'], r['language'])
        for r in metadata(shared, name)
    }
    got = set(
        labels[['clip', 'emotion', 'speaker', 'gender', 'language']].itertuples(
            index=False, name=None
        )
    )
    assert len(got) == len(labels) and got == want
    assert (
        (labels.corpus == name).all()
        and labels.sentence.notna().all()
        and not labels.synthetic.any()
    )


@pytest.mark.parametrize('name', CORPORA)
@pytest.mark.parametrize('called', ['own', 'another'])
@pytest.mark.parametrize('layout', ['upstream', 'flat'])
def test_labels_from_file_names(shared, tmp_path, name, called, layout):
    corpus = tmp_path / (name if called == 'own' else 'downloads')
    lay_out(shared, name, corpus, UPSTREAM[name] if layout == 'upstream' else lambda r: '')
    for folder in (tmp_path, corpus):  # a folder of corpora, and the corpus itself
        labels, report = read_labels(folder)
        same_labels(shared, name, labels)
        assert not len(report)


def test_all_upstream_together(shared, tmp_path):
    for n, name in enumerate(CORPORA):
        lay_out(shared, name, tmp_path / f'part{n}', UPSTREAM[name])
    assert sorted(find_corpora(tmp_path)) == sorted(CORPORA)
    labels, report = read_labels(tmp_path)
    assert not len(report)
    for name in CORPORA:
        same_labels(shared, name, labels[labels.corpus == name])


def test_reference_layout_of_real_clips(shared, tmp_path):
    rows = metadata(shared, 'EMOVO')
    for r in rows:
        f = (
            tmp_path
            / 'EMOVO'
            / 'EMOVO_wav'
            / f"{r['emotion']}_emovo_{r['speaker']}_{r['stem']}.flac"
        )
        f.parent.mkdir(parents=True, exist_ok=True)
        f.symlink_to(shared / 'corpora' / 'EMOVO' / r['file'])
    labels, report = read_labels(tmp_path)
    assert not len(report) and set(labels.language) == {'it'}
    assert sorted(zip(labels.emotion, labels.speaker)) == sorted(
        (r['emotion'], f"EMOVO/{r['speaker']}") for r in rows
    )


def empty_clips(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / f'{name}.wav').touch()
    return folder


BANGLA = [
    f'03-01-{e}-01-{s}-{r}-{n:02}'
    for e in ('01', '03', '05')
    for s in ('01', '03')
    for r in ('01', '03')
    for n in (1, 34)
]


@pytest.mark.parametrize('called', ['BanglaSER', 'downloads'])
def test_banglaser_is_not_ravdess(tmp_path, called):
    labels, report = read_labels(empty_clips(tmp_path / called, BANGLA))
    assert not len(report)
    assert set(labels.corpus) == {'BANGLASER'} and set(labels.language) == {'bn'}
    code = labels['clip'].str.extract('/03-01-(..)')[0]
    assert dict(zip(code, labels.emotion)) == {'01': 'happy', '03': 'anger', '05': 'neutral'}
    genders = dict(zip(labels.speaker, labels.gender))
    assert genders == {'BANGLASER/01': 'male', 'BANGLASER/34': 'female'}


def test_names_that_two_corpora_have_are_asked(tmp_path):
    names = [f'03-01-{e}-01-02-01-{n:02}' for e in ('01', '03', '05') for n in (1, 2)]
    folder = empty_clips(tmp_path / 'downloads', names)
    with pytest.raises(CorpusError, match='could be RAVDESS or BANGLASER.*Name its folder'):
        read_labels(folder)
    meanings = {
        'RAVDESS': ['neutral', 'happy', 'anger'],
        'BanglaSER': ['happy', 'anger', 'neutral'],
    }
    for name, meaning in meanings.items():
        folder = folder.rename(tmp_path / name)
        labels, _ = read_labels(folder)
        assert labels.sort_values('path').emotion.tolist() == [e for e in meaning for _ in range(2)]
    (folder / '03-01-08-01-02-01-02.wav').touch()  # an emotion of RAVDESS only
    assert list(find_corpora(folder.rename(tmp_path / 'again'))) == ['RAVDESS']


def test_mesd_is_not_the_reference_layout(tmp_path):
    names = [
        f'{e}_{v}_{w}'
        for e in ('Anger', 'Happiness', 'Neutral')
        for v in 'FMC'
        for w in ('A_tarde', 'B_a_veces')
    ]
    labels, report = read_labels(empty_clips(tmp_path / 'downloads', names))
    assert not len(report) and set(labels.corpus) == {'MESD'} and set(labels.language) == {'es'}
    genders = dict(zip(labels.speaker, labels.gender))
    assert genders == {'MESD/F': 'female', 'MESD/M': 'male', 'MESD/C': None}


EMODB2 = """name: emodb
languages: [deu]
schemes:
  emotion: {dtype: str}
  speaker: {dtype: int}
tables:
  files: {type: filewise, columns: {speaker: {scheme_id: speaker}}}
  emotion.categories.ambiguous: {type: filewise, columns: {emotion: {scheme_id: emotion}}}
  emotion.categories.desired: {type: filewise, columns: {emotion: {scheme_id: emotion}}}
"""


@pytest.mark.parametrize('called', ['emodb', '2f8a'])
def test_emodb_2_is_its_speech_with_agreement(tmp_path, called):
    names = ['03a01Fa', '08b02Wc', '09a05Nb']
    for sub in ('wav', 'laryngo'):
        empty_clips(tmp_path / called / sub, names)
    (tmp_path / called / 'db.yaml').write_text(EMODB2)
    (tmp_path / called / 'db.files.csv').write_text('file,speaker\nwav/03a01Fa.wav,3\n')
    ambiguous = tmp_path / called / 'db.emotion.categories.ambiguous.csv'
    desired = ambiguous.with_stem('db.emotion.categories.desired')
    ambiguous.write_text('file,emotion\nwav/09a05Nb.wav,neutral\n')
    desired.write_text('file,emotion\nwav/03a01Fa.wav,happiness\nwav/09a05Nb.wav,neutral\n')
    labels, report = read_labels(tmp_path)
    assert labels['clip'].tolist() == ['EMODB/03a01Fa', 'EMODB/08b02Wc']
    assert labels.path.str.contains('/wav/').all()
    assert report.problem.value_counts().to_dict() == {'laryngogram': 3, 'annotators disagree': 1}


def test_the_reference_layout_names_one_dataset(tmp_path):
    several = empty_clips(tmp_path / 'several', ['Anger_x_1_a', 'Happy_y_1_b', 'Sad_x_2_c'])
    with pytest.raises(CorpusError, match='in a layout that is known'):
        read_labels(several)
    one = empty_clips(tmp_path / 'mine', ['Anger_kes_1_a', 'Happy_kes_1_b', 'Sad_kes_2_c'])
    labels, report = read_labels(one)
    assert report.problem.tolist() == ['read as'] and not report.left_out.any()
    assert 'dataset kes, 2 speakers, such as 1' in report.detail[0]
    assert sorted(set(labels.speaker)) == ['mine/1', 'mine/2']


@pytest.mark.parametrize('name', CORPORA)
def test_metadata_csv_of_real_corpora(shared, tmp_path, name):
    "The same labels once more through metadata.csv, from a folder whose file names say nothing."
    (tmp_path / 'mine').mkdir()
    rows = metadata(shared, name)
    for i, r in enumerate(rows):
        (tmp_path / 'mine' / f'{i}.flac').symlink_to(shared / 'corpora' / name / r['file'])
    with open(tmp_path / 'mine' / 'metadata.csv', 'w', encoding='utf-8', newline='') as f:
        w = csv.writer(f)
        w.writerow(('file', 'emotion', 'speaker', 'gender', 'language'))
        w.writerows(
            (f'{i}.flac', r['emotion'], r['speaker'], r['gender'], r['language'])
            for i, r in enumerate(rows)
        )
    labels, report = read_labels(tmp_path)
    assert not len(report)

    def key(entry):
        return [f"mine/{entry['speaker']}", *(entry[c] for c in ('emotion', 'gender', 'language'))]

    assert sorted(labels[['speaker', 'emotion', 'gender', 'language']].values.tolist()) == sorted(
        map(key, rows)
    )


def test_real_manifest(shared, tmp_path, monkeypatch):
    manifest, report = read_corpora(shared / 'corpora', cache=tmp_path / 'cache.csv')
    for name in CORPORA:
        same_labels(shared, name, manifest[manifest.corpus == name])
    assert (
        manifest.seconds.between(0.8, 14.1).all()
        and manifest.sha256.str.fullmatch('[0-9a-f]{64}').all()
    )
    twins = report[report.problem == 'identical']
    assert sorted(f.rsplit('/', 1)[-1] for f in twins.file) == [
        '03-01-03-01-02-01-07.flac',
        '03-01-03-01-02-02-07.flac',
    ]
    assert not report.left_out.any()
    every = [f.parent.name for f in (shared / 'corpora').glob('*/metadata.csv')]
    assert label_counts(manifest).sum(axis=1).to_dict() == {
        name: len(metadata(shared, name)) for name in every
    }

    monkeypatch.setattr(corpora, 'inspect_clip', None)  # nothing is decoded a second time
    again, _ = read_corpora(shared / 'corpora', cache=tmp_path / 'cache.csv')
    for ending in ('csv', 'parquet'):
        save_manifest(again, tmp_path / f'm.{ending}')
        assert load_manifest(tmp_path / f'm.{ending}').equals(manifest)


def test_interrupted_work_is_kept(tmp_path, monkeypatch):
    "What was measured before an interruption is not measured again."
    for i in range(6):
        sf.write(tmp_path / f'{i}.wav', np.full(8000, 0.1 * i), 16000)
    paths, cache, real, done = (
        [tmp_path / f'{i}.wav' for i in range(6)],
        tmp_path / 'cache.csv',
        corpora.inspect_clip,
        [],
    )

    def interrupted(p):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(p)
        return real(p)

    monkeypatch.setattr(corpora, 'inspect_clip', interrupted)
    with pytest.raises(KeyboardInterrupt):
        corpora.inspect_clips(paths, jobs=1, cache=cache)
    monkeypatch.setattr(corpora, 'inspect_clip', lambda p: (done.append(p), real(p))[1])
    rows = corpora.inspect_clips(paths, jobs=1, cache=cache)
    assert len(done) == len(set(map(str, done))) == 6 and rows == [real(p) for p in paths]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ['cache.csv', *(p.name for p in paths)]
    )


# tables as people have them: 16 clips of noise, four speakers, four emotions


def corpus(root, table=None, place=lambda n, speaker: f'audio/{n:03}.wav', **how):
    "Writes a corpus `mine` below `root`; `table` changes the rows of its metadata.csv before they are written."
    rows = [
        dict(
            file=place(n, f'{n % 4:02}'),
            emotion=('anger', 'happy', 'neutral', 'sad')[n // 4],
            speaker=f'{n % 4:02}',
        )
        for n in range(16)
    ]
    for n, row in enumerate(rows):
        path = root / 'mine' / row['file']
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, np.random.default_rng(n).normal(0, 0.1, 6400), 16000)
    table = table(pd.DataFrame(rows)) if table else pd.DataFrame(rows)
    table.to_csv(root / 'mine' / 'metadata.csv', index=False, **how)
    return root


def refused(root, *parts):
    with pytest.raises(CorpusError) as e:
        read_labels(root)
    for part in parts:
        assert part in str(e.value), (part, str(e.value))
    return e.value


def told(report, problem):
    return report[report.problem == problem].detail.tolist()


@pytest.mark.parametrize(
    'one, other', [('03', '3'), ('3.0', '3'), ('Anna', 'anna'), ('spk 1', 'spk_1'), ('s-01', 's_1')]
)
def test_a_speaker_in_two_spellings_is_refused(tmp_path, one, other):
    root = corpus(tmp_path, lambda t: t.assign(speaker=[one, other, 'x', 'y'] * 4))
    refused(root, f"'{one}' in 4 clips", f"'{other}' in 4 clips")


@pytest.mark.parametrize(
    'nobody',
    [
        'nan',
        'NaN',
        'unknown',
        'Unknown',
        'none',
        'n/a',
        'N/A',
        'null',
        '?',
        '',
        'NA',
        'N.A.',
        '<unk>',
        'UNK',
        '??',
        '--',
        'undefined',
        'Unknown speaker',
        'not known',
        'anonymous',
        '-1',
    ],
)
def test_an_unknown_speaker_is_no_speaker(tmp_path, nobody):
    root = corpus(tmp_path, lambda t: t.assign(speaker=[nobody, *t.speaker[1:]]))
    refused(root, 'metadata.csv', 'no speaker', f'line 2: {nobody or "empty"}')


def test_an_unknown_speaker_in_file_names_is_none(tmp_path):
    for n, s in enumerate(('01', 'unknown')):
        sf.write(
            tmp_path / f'anger_mine_{s}_{n}.wav',
            np.random.default_rng(n).normal(0, 0.1, 6400),
            16000,
        )
    refused(tmp_path, '1 clips of', "have no speaker (got 'unknown')")


def test_numbers_that_differ_are_different_speakers(tmp_path):
    labels, _ = read_labels(
        corpus(tmp_path, lambda t: t.assign(speaker=['1', '10', '11', '101'] * 4))
    )
    assert labels.speaker.nunique() == 4


def test_one_name_in_two_folders_is_two_clips(tmp_path):
    manifest, report = read_corpora(
        corpus(tmp_path, place=lambda n, speaker: f'spk{speaker}/{n // 4:03}.wav'), jobs=1
    )
    assert len(manifest) == 16 and manifest['clip'].nunique() == 16 and not len(report)
    assert {'mine/spk00_000', 'mine/spk03_003'} <= set(manifest['clip'])
    assert set(read_labels(corpus(tmp_path / 'again'))[0]['clip']) == {
        f'mine/{n:03}' for n in range(16)
    }  # other ids stay as they were


@pytest.mark.parametrize('inner', ['mine', 'mine/mine', 'unpacked again'])
def test_a_tree_that_is_there_twice_is_read_once(tmp_path, inner):
    root = corpus(tmp_path)
    shutil.copytree(root / 'mine' / 'audio', root / 'mine' / inner / 'audio')
    manifest, report = read_corpora(root, jobs=1)
    assert len(manifest) == 16 and not manifest.path.str.contains(f'mine/{inner}').any()
    assert (report.problem == 'copy').sum() == 16 and told(report, 'there twice') == [
        f'16 files equal those of the same names in {root}/mine, each is read once'
    ]


def test_a_folder_within_one_of_the_same_name_is_named(tmp_path):
    folder = tmp_path / 'TESS' / 'TESS set'
    for n, word in enumerate(('angry', 'sad')):
        for at in (folder / 'OAF', folder / 'TESS set' / 'OAF'):
            at.mkdir(parents=True, exist_ok=True)
            sf.write(
                at / f'OAF_back_{word}.wav', np.random.default_rng(n).normal(0, 0.1, 6400), 16000
            )
    labels, report = read_labels(tmp_path)
    assert len(labels) == 2
    says = f'2 files equal those of the same names in {folder}, each is read once'
    assert told(report, 'there twice') == [says]
    assert report.file[report.problem == 'there twice'].tolist() == [str(folder / 'TESS set')]


def test_ravdess_in_a_second_folder_is_read_once(tmp_path):
    for n in range(8):
        for at in ('Actor_01', 'audio_speech_actors_01-24/Actor_01'):
            f = tmp_path / 'RAVDESS' / at / f'03-01-0{n + 1}-01-01-01-01.wav'
            f.parent.mkdir(parents=True, exist_ok=True)
            sf.write(
                f,
                np.random.default_rng(n + 100 * (n == 7 and at == 'Actor_01')).normal(0, 0.1, 6400),
                16000,
            )
    e = refused(
        tmp_path, 'two files are the same clip', '1 clips are there twice or more'
    )  # one differs, and which is right is not known
    assert e.file.endswith('08-01-01-01-01.wav')
    (tmp_path / 'RAVDESS' / 'Actor_01' / '03-01-08-01-01-01-01.wav').unlink()
    labels, report = read_labels(tmp_path)
    assert len(labels) == 8 and told(report, 'there twice') == [
        f'7 files equal those of the same names in {tmp_path}/RAVDESS, each is read once; 1 files differ'
    ]


def test_equal_sound_under_two_rows_stays_two_clips(tmp_path):
    root = corpus(tmp_path, place=lambda n, speaker: f'spk{speaker}/{n // 4:03}.wav')
    shutil.copy(root / 'mine/spk00/000.wav', root / 'mine/spk01/000.wav')
    manifest, report = read_corpora(root, jobs=1)
    assert len(manifest) == 16 and (report.problem == 'identical').sum() == 2


LISTED = {
    'bare names': lambda f: f.split('/')[-1],
    'absolute': lambda f: f'/home/me/data/mine/{f}',
    'another system': lambda f: 'C:\\data\\mine\\' + f.replace('/', '\\'),
    'with the corpus': lambda f: f'mine/{f}',
    'without ending': lambda f: f.removesuffix('.wav'),
    'before conversion': lambda f: f.replace('.wav', '.mp3'),
    'from here': lambda f: f'./{f}',
}


@pytest.mark.parametrize('how', LISTED)
def test_files_are_found_by_the_paths_of_another_machine(tmp_path, how):
    labels, report = read_labels(corpus(tmp_path, lambda t: t.assign(file=t.file.map(LISTED[how]))))
    assert len(labels) == 16 and not report.left_out.any()
    assert labels.emotion.tolist() == ['anger'] * 4 + ['happy'] * 4 + ['neutral'] * 4 + ['sad'] * 4
    assert how == 'from here' or '16 files lie elsewhere than listed' in told(report, 'read as')[0]


def test_a_path_that_fits_two_files_is_not_guessed(tmp_path):
    corpus(tmp_path / 'b', place=lambda n, speaker: f'spk{speaker}/{n // 4:03}.wav')
    pd.DataFrame(dict(file=['000.wav', 'spk00/001.wav'], emotion='sad', speaker=['1', '2'])).to_csv(
        tmp_path / 'b/mine/metadata.csv', index=False
    )
    labels, report = read_labels(tmp_path / 'b')
    assert (
        len(labels) == 1
        and (report.problem == 'unclear path').sum() == 1
        and 'spk00/000.wav and spk01/000.wav' in told(report, 'unclear path')[0]
    )


def test_names_that_match_nothing_are_shown_and_reported(tmp_path):
    root = corpus(
        tmp_path, lambda t: t.assign(file=['wavs/clip_' + f.split('/')[-1] for f in t.file])
    )
    e = refused(
        root,
        'missing file: 16',
        'no label: 16',
        'such as mine/wavs/clip_000.wav',
        'such as mine/audio/000.wav',
        'as it lies below its folder',
    )
    assert len(e.report) == 32
    r = CliRunner().invoke(
        app, ['corpora', str(root), '--out', str(tmp_path / 'out'), '--jobs', '1']
    )
    assert r.exit_code == 1 and 'integrity.csv' in r.output
    assert (
        len(pd.read_csv(tmp_path / 'out' / 'integrity.csv')) == 32
        and not (tmp_path / 'out' / 'manifest.csv').exists()
    )


def test_no_usable_clip_and_no_clip_are_reported(tmp_path):
    root = corpus(tmp_path / 'silent')
    for f in (root / 'mine' / 'audio').iterdir():
        sf.write(f, np.zeros(6400), 16000)
    (tmp_path / 'none').mkdir()
    for at, what in ((root, 'silent: 16'), (tmp_path / 'none', 'no corpus')):
        out = tmp_path / f'out-{at.name}'
        r = CliRunner().invoke(
            app,
            [
                'split',
                '--corpora',
                str(at),
                '--test-corpus',
                'mine',
                '--out',
                str(out),
                '--jobs',
                '1',
            ],
        )
        assert r.exit_code == 1 and what in r.output, r.output
        assert len(pd.read_csv(out / 'integrity.csv'))


WORDS = {
    'codes': 'ang hap neu sad',
    'upper case': 'ANGRY HAPPINESS NEUTRAL SADNESS',
    'German': 'Ärger fröhlich neutral Trauer',
    'Italian': 'rabbia gioia neutro tristezza',
    'French': 'colère joie neutre tristesse',
    'Spanish': 'enojo alegría neutral tristeza',
}


@pytest.mark.parametrize('language', WORDS)
def test_words_of_the_field_are_understood(tmp_path, language):
    labels, report = read_labels(
        corpus(
            tmp_path,
            lambda t: t.assign(
                emotion=t.emotion.map(
                    dict(zip(('anger', 'happy', 'neutral', 'sad'), WORDS[language].split()))
                )
            ),
        )
    )
    assert labels.emotion.value_counts().to_dict() == dict(
        anger=4, happy=4, neutral=4, sad=4
    ) and not len(report)


def test_unknown_words_are_shown_and_can_be_given(tmp_path):
    root = corpus(
        tmp_path,
        lambda t: t.assign(
            emotion=t.emotion.map(dict(anger='Hangry', happy='happy', neutral='meh', sad='sad'))
        ),
    )

    def call(*more):
        return CliRunner().invoke(
            app, ['corpora', str(root), '--out', str(tmp_path / 'out'), '--jobs', '1', *more]
        )

    r = call()
    assert (
        r.exit_code == 0
        and '8 clips have labels that are not understood' in r.output
        and 'meh (4)' in r.output
        and 'Hangry (4)' in r.output
        and '--labels' in r.output
    )
    (tmp_path / 'words.yaml').write_text('hangry: anger\nmeh: null\n')
    r = call('--labels', str(tmp_path / 'words.yaml'))
    assert (
        r.exit_code == 0
        and '12 clips in' in r.output
        and '4 × left out by its label' in r.output
        and 'not understood' not in r.output
    )
    (tmp_path / 'words.yaml').write_text('hangry: angr\n')
    r = call('--labels', str(tmp_path / 'words.yaml'))
    assert r.exit_code == 1 and 'words.yaml' in r.output and "Did you mean 'anger'?" in r.output


def test_the_users_words_do_not_change_the_codes_of_a_corpus(tmp_path):
    for n, code in enumerate('WFX'):
        (tmp_path / 'EMODB').mkdir(exist_ok=True)
        sf.write(
            tmp_path / 'EMODB' / f'03a0{n}{code}a.wav',
            np.random.default_rng(n).normal(0, 0.1, 6400),
            16000,
        )
    labels, _ = read_labels(tmp_path, labels={'w': 'sad', 'f': None, 'x': 'calm'})
    assert labels.emotion.tolist() == ['anger', 'happy', 'calm']


@pytest.mark.parametrize(
    'sep, bom', [(';', True), (';', False), ('\t', True), ('|', False), (',', True)]
)
def test_tables_of_other_programs_are_read(tmp_path, sep, bom):
    "Semicolons, a byte-order mark, decimal commas and other names of the columns, as spreadsheets write them."

    def change(t):
        return t.rename(
            columns=dict(file='File_Name', emotion='label', speaker='speaker_id')
        ).assign(seconds=0.4)

    root = corpus(tmp_path, change, sep=sep, decimal=',', encoding='utf-8-sig' if bom else 'utf-8')
    labels, report = read_labels(root)
    assert len(labels) == 16 and set(labels.speaker) == {f'mine/0{n}' for n in range(4)}
    (note,) = told(report, 'read as')
    assert ("speaker is the column 'speaker_id'" in note) and ('separated by' in note) == (
        sep != ','
    )
    assert (
        note
        in CliRunner()
        .invoke(app, ['corpora', str(root), '--out', str(tmp_path / 'out'), '--jobs', '1'])
        .output
    )


@pytest.mark.parametrize('column', ['path', 'filename', 'file_name'])
def test_names_of_the_column_of_files(tmp_path, column):
    assert (
        len(read_labels(corpus(tmp_path, lambda t: t.rename(columns=dict(file=column))))[0]) == 16
    )


def test_columns_that_are_not_understood_are_listed(tmp_path):
    refused(
        corpus(tmp_path, lambda t: t.rename(columns=dict(file='wav', emotion='mood'))),
        'lacks the columns file, emotion',
        "got 'wav, mood, speaker'",
        'path, filename',
    )
    refused(
        corpus(
            tmp_path / 'two', lambda t: t.assign(path=t.file).rename(columns=dict(file='filename'))
        ),
        "two columns that could be 'file'",
        'filename, path',
    )
