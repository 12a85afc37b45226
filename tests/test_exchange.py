"Exports as audformat, audb and nkululeko themselves read them, databases of others, and the way back to the same manifest."

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import audformat
import av
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from typer.testing import CliRunner

from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import CorpusError, StoreError
from speaker_vgg_cct.data.corpora import read_corpora, save_manifest
from speaker_vgg_cct.data.formats import FORMATS, PARTS, export
from speaker_vgg_cct.data.split import make_split, save_split
from speaker_vgg_cct.data.synthetic import build


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Three corpora, their manifest, and a split of three classes (labels other than the emotions) with augmented copies."
    root = tmp_path_factory.mktemp('exchange')
    manifest, _ = read_corpora(build(root / 'corpora', speakers=3, sentences=1, jobs=1), jobs=1)
    split = make_split(manifest, 'SYNTH_B', task='3', augmentation='freq_aug')
    for form in FORMATS:
        export(manifest, root / form, form, split)
    return root, manifest, split


def same(found, manifest):
    "All but the paths, which are now those of links to the same files."
    pd.testing.assert_frame_equal(found.drop(columns='path'), manifest.drop(columns='path'))


def wav(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(
        path,
        np.random.default_rng(sum(map(ord, path.stem))).normal(0, 0.1, int(16000 * seconds)),
        16000,
    )


def parts_of(split):  # {clip: (part in the words of audformat, label)}, originals only
    own = split[split.augmentation == '']
    return {c: (PARTS[p], entry) for c, p, entry in zip(own['clip'], own.part, own.label)}


def test_audformat_finds_files_speakers_labels_and_splits(made):
    root, manifest, split = made
    wanted = parts_of(split)
    for name, own in manifest.groupby('corpus'):
        db = audformat.Database.load(root / 'audformat' / name)
        clips = {f: f'{name}/{Path(f).stem}' for f in db.files}
        assert db.name == name and db.is_portable and sorted(clips.values()) == sorted(own['clip'])
        assert all((root / 'audformat' / name / f).is_file() for f in db.files)

        def of(table, column, **k):
            return {clips[f]: v for f, v in db[table][column].get(**k).items()}

        assert {c: f'{name}/{s}' for c, s in of('files', 'speaker').items()} == dict(
            zip(own['clip'], own.speaker)
        )
        for column in ('gender', 'language', 'sentence'):
            assert of('files', column) == dict(zip(own['clip'], own[column]))
        assert of('emotion', 'emotion') == dict(zip(own['clip'], own.emotion))
        found = {
            c: (part, label)
            for part in db.splits
            for c, label in of(f'emotion.{part}', 'emotion', map='label').items()
        }
        assert found == {c: w for c, w in wanted.items() if c.startswith(name + '/')}
        assert {p: (s.type, db[f'emotion.{p}'].split_id) for p, s in db.splits.items()} == {
            p: (p, p) for p in db.splits
        }
        assert (
            db.meta['split']['label_hash'] == split.attrs['label_hash']
            and db.meta['synthetic'] is True
        )
    assert {'train', 'dev', 'test'} == {p for p, _ in wanted.values()} and (
        split.augmentation != ''
    ).any()


@pytest.mark.parametrize('form', FORMATS)
def test_copies_do_not_need_the_corpora(made, tmp_path, form):
    _, manifest, _ = made
    folder = export(manifest, tmp_path / 'out', form, copy=True)
    files = [p for p in folder.rglob('*.wav')]
    assert len(files) == len(manifest) and not any(p.is_symlink() for p in files)
    (tmp_path / 'out').rename(tmp_path / 'elsewhere')
    found, report = read_corpora(tmp_path / 'elsewhere' / FORMATS[form][1], jobs=1)
    same(found, manifest)
    assert not len(report)


def test_corpora_that_are_known_by_their_names_stay_what_they_are(tmp_path):
    "EMO-DB by its file names, SAVEE whose speakers are folders, IEMOCAP whose labels lie in files of its own."
    for s in ('03a01Fa', '08b02Nc', '03a01Wb'):
        wav(tmp_path / 'in' / 'EMODB' / 'wav' / f'{s}.wav')
    for s in ('DC/a01', 'JE/sa02'):
        wav(tmp_path / 'in' / 'SAVEE' / f'{s}.wav')
    turns = {
        'Ses01F_impro01_F000': 'ang',
        'Ses01F_impro01_M001': 'exc',
        'Ses01F_script01_1_F002': 'neu',
    }
    for t in turns:
        wav(tmp_path / 'in' / 'IEMOCAP' / 'Session1' / 'sentences' / 'wav' / t[:14] / f'{t}.wav')
    labels = tmp_path / 'in' / 'IEMOCAP' / 'Session1' / 'dialog' / 'EmoEvaluation' / 'x.txt'
    labels.parent.mkdir(parents=True)
    labels.write_text(
        ''.join(f'[6.2901 - 8.2357]\t{t}\t{e}\t[2.5, 2.5, 2.5]\n' for t, e in turns.items())
    )
    manifest, _ = read_corpora(tmp_path / 'in', jobs=1)
    assert len(manifest) == 8 and manifest.corpus.nunique() == 3
    found, report = read_corpora(export(manifest, tmp_path / 'out', 'audformat'), jobs=1)
    same(found, manifest)
    assert not len(report)


def test_audb_publishes_and_loads_it(made, tmp_path):
    audb = pytest.importorskip(
        'audb', reason='audb is not installed: pip install audb, or the extra `exchange`'
    )
    import audbackend

    root, manifest, _ = made
    (tmp_path / 'host').mkdir()
    audbackend.backend.FileSystem.create(str(tmp_path / 'host'), 'repository')
    repository = audb.Repository('repository', str(tmp_path / 'host'), 'file-system')
    audb.config.REPOSITORIES = [repository]
    own = manifest[manifest.corpus == 'SYNTH_B'].reset_index(drop=True)
    audb.publish(str(root / 'audformat' / 'SYNTH_B'), '1.0.0', repository, verbose=False)
    db = audb.load('SYNTH_B', version='1.0.0', cache_root=str(tmp_path / 'cache'), verbose=False)
    audb.load_to(
        str(tmp_path / 'loaded'),
        'SYNTH_B',
        version='1.0.0',
        cache_root=str(tmp_path / 'cache'),
        verbose=False,
    )
    for folder in (db.root, tmp_path / 'loaded'):
        found, report = read_corpora(folder, jobs=1)
        same(found, own)  # also that it is synthetic, whose marker does not travel
        assert not len(report)


ASK = '''
import configparser, json
from nkululeko.experiment import Experiment
config = configparser.ConfigParser(); config.read('split.ini')
e = Experiment(config); e.set_module('nkululeko'); e.load_datasets(); e.fill_train_and_tests()
rows = {part: [[f, s, entry, g] for (f, *_), s, entry, g in zip(t.index, t.speaker, t.class_label, t.gender)] for part, t in dict(train=e.df_train, dev=e.df_dev, test=e.df_test).items()}
print('FOUND' + json.dumps(rows))
'''


def test_nkululeko_loads_the_split(made, tmp_path):
    "nkululeko 1.14 wants pandas<3, so it lives in another environment: SVC_NKULULEKO is its python."
    python = os.environ.get('SVC_NKULULEKO') or (sys.executable if find_spec('nkululeko') else None)
    if not python:
        pytest.skip(
            'nkululeko is not installed: set SVC_NKULULEKO to the python of an environment that has it'
        )
    _, manifest, split = made
    export(manifest, tmp_path / 'out', 'nkululeko', split)
    done = subprocess.run(
        [python, '-c', ASK],
        cwd=tmp_path / 'out',
        capture_output=True,
        text=True,
        timeout=3000,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
    )
    assert 'FOUND' in done.stdout, done.stderr[-3000:]
    rows = json.loads(done.stdout.rsplit('FOUND', 1)[1].splitlines()[0])
    m = manifest.set_index('clip')
    found = {
        f'{Path(f).parts[-3]}/{Path(f).stem}': (part, s, entry, g)
        for part, own in rows.items()
        for f, s, entry, g in own
    }
    assert found == {
        c: (part, m.speaker[c], label, m.gender[c]) for c, (part, label) in parts_of(split).items()
    }


PUBLISHED = {
    'key',
    'dataset',
    'wav',
    'type',
    'sample_rate',
    'num_frame',
    'task',
    'length',
    'emo',
    'channel',
}  # of data/*/*.jsonl in emo-box/EmoBox


def test_emobox_has_the_layout_of_its_repository(made):
    root, manifest, split = made
    data, m = root / 'emobox' / 'data', manifest.set_index('clip')

    def read(p):
        return [json.loads(line) for line in p.read_text(encoding='utf-8').splitlines()]

    for name in m.corpus.unique():
        lines = read(data / name / f'{name}.jsonl')
        assert sorted(entry['key'] for entry in lines) == sorted(
            c.replace('/', '-') for c in m.index[m.corpus == name]
        )
        for entry in lines:
            clip, sound = entry['key'].replace('-', '/', 1), sf.info(root / 'emobox' / entry['wav'])
            assert set(entry) == PUBLISHED | {'speaker', 'gender'} and (
                entry['emo'],
                entry['dataset'],
                entry['speaker'],
            ) == (m.emotion[clip], name, m.speaker[clip])
            assert entry['wav'].startswith(f'downloads/{name}/') and (
                entry['sample_rate'],
                entry['num_frame'],
                entry['channel'],
            ) == (sound.samplerate, sound.frames, sound.channels)
        whole = json.loads((data / name / f'{name}.json').read_text())
        assert {k: v['wav'] for k, v in whole.items()} == {
            entry['key']: entry['wav'] for entry in lines
        }
        assert {entry['emo'] for entry in lines} == set(
            json.loads((data / name / 'label_map.json').read_text())
        ) or name == 'SYNTH_B'
    to_class = json.loads((data / 'SYNTH_B' / 'label_map.json').read_text())
    found = {
        entry['key'].replace('-', '/', 1): (part, to_class[entry['emo']])
        for part, word in (('train', 'train'), ('dev', 'valid'), ('test', 'test'))
        for entry in read(data / 'SYNTH_B' / 'fold_1' / f'SYNTH_B_{word}_fold_1.jsonl')
    }
    assert found == parts_of(split)


def test_emobox_describes_clips_of_any_container(tmp_path):
    "A corpus of m4a files, which libsndfile cannot open."
    seconds, rate = 1.0, 16000
    for number, emotion in enumerate(('anger', 'sad')):
        path = tmp_path / 'corpora' / 'OWN' / f'{emotion}.m4a'
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), 'w') as file:
            track = file.add_stream('aac', rate=rate, layout='mono')
            noise = np.random.default_rng(number).normal(0, 0.1, (1, int(rate * seconds)))
            frame = av.AudioFrame.from_ndarray(noise.astype(np.float32), 'fltp', 'mono')
            frame.sample_rate = rate
            file.mux(track.encode(frame))
            file.mux(track.encode(None))
    rows = [f'{e}.m4a,{e},{i}' for i, e in enumerate(('anger', 'sad'))]
    table = '\n'.join(['file,emotion,speaker', *rows]) + '\n'
    (tmp_path / 'corpora' / 'OWN' / 'metadata.csv').write_text(table)
    manifest, _ = read_corpora(tmp_path / 'corpora', jobs=1)
    export(manifest, tmp_path / 'emobox', 'emobox')
    written = (tmp_path / 'emobox' / 'data' / 'OWN' / 'OWN.jsonl').read_text().splitlines()
    for line in map(json.loads, written):
        assert (line['sample_rate'], line['channel']) == (rate, 1)
        assert abs(line['length'] - seconds) < 0.1 and line['wav'].endswith('.m4a')
    assert len(written) == 2


def foreign(folder, emotion='emotion', storage='csv', kind='filewise', speakers=True):
    "A database as others write them: speakers are numbers, and what is known of them is in the header."
    db = audformat.Database('other', languages='deu')
    db.schemes['emotion'] = audformat.Scheme(labels=['anger', 'happiness', 'no_agreement'])
    db.schemes['speaker'] = audformat.Scheme(
        'int', labels={3: {'gender': 'male'}, 8: {'gender': 'female'}}
    )
    files = ['wav/1/a.wav', 'wav/2/a.wav', 'wav/2/b.wav']
    for f in files:
        wav(folder / f, 0.5 if f[-5] == 'a' else 0.6)
    index = (
        audformat.filewise_index(files)
        if kind == 'filewise'
        else audformat.segmented_index(files, [0] * 3, ['0.2s'] * 3)
    )
    db[emotion] = audformat.Table(index)
    db[emotion]['emotion'] = audformat.Column(scheme_id='emotion')
    db[emotion]['emotion'].set(['anger', 'happiness', 'no_agreement'])
    if speakers:
        db['files'] = audformat.Table(audformat.filewise_index(files))
        db['files']['speaker'] = audformat.Column(scheme_id='speaker')
        db['files']['speaker'].set([3, 8, 8])
    db.save(str(folder), storage_format=storage)
    return db


@pytest.mark.parametrize('storage', ['csv', 'parquet'])
@pytest.mark.parametrize('emotion', ['emotion', 'emotion.categories.train.gold_standard'])
def test_a_database_of_others(tmp_path, storage, emotion):
    foreign(
        tmp_path / '1.4.1' / 'd3b62a9b', emotion, storage
    )  # audb's folders are named after versions and hashes
    manifest, report = read_corpora(tmp_path / '1.4.1', jobs=1)
    assert manifest[['clip', 'speaker', 'emotion', 'gender', 'language']].values.tolist() == [
        ['other/wav_1_a', 'other/3', 'anger', 'male', 'de'],
        ['other/wav_2_a', 'other/8', 'happy', 'female', 'de'],
    ]
    assert report[report.left_out][['problem', 'detail']].values.tolist() == [
        ['unknown label', 'no_agreement']
    ]


def test_ratings_give_way_to_the_gold_standard(tmp_path):
    db = foreign(tmp_path / 'db', 'emotion.categories.test.gold_standard')
    db['emotion.categories.test.desired'] = audformat.Table(
        audformat.filewise_index(['wav/1/a.wav'])
    )
    db['emotion.categories.test.desired']['emotion'] = audformat.Column(scheme_id='emotion')
    db['emotion.categories.test.desired']['emotion'].set(['happiness'])
    db.save(str(tmp_path / 'db'), storage_format='csv')
    assert read_corpora(tmp_path / 'db', jobs=1)[0].emotion.tolist() == ['anger', 'happy']


def test_what_is_known_of_speakers_may_be_a_table(tmp_path):
    db = foreign(tmp_path / 'db', speakers=False)
    db['speaker'] = audformat.MiscTable(pd.Index([3, 8], name='speaker', dtype='Int64'))
    db.schemes['sex'] = audformat.Scheme(labels=['female', 'male'])
    db['speaker']['sex'] = audformat.Column(scheme_id='sex')
    db['speaker']['sex'].set(['male', 'female'])
    db.schemes['speaker'] = audformat.Scheme('int', labels='speaker')
    db['files'] = audformat.Table(
        audformat.filewise_index(['wav/1/a.wav', 'wav/2/a.wav', 'wav/2/b.wav'])
    )
    db['files']['speaker'] = audformat.Column(scheme_id='speaker')
    db['files']['speaker'].set([3, 8, 8])
    db.save(str(tmp_path / 'db'), storage_format='csv')
    assert read_corpora(tmp_path / 'db', jobs=1)[0].gender.tolist() == ['male', 'female']


@pytest.mark.parametrize(
    'change, says',
    [
        (dict(kind='segmented'), 'no table with the emotions of whole files'),
        (dict(speakers=False), 'names no speaker of a file'),
        (dict(storage='pkl'), 'pickles are not opened'),
    ],
)
def test_databases_that_are_refused(tmp_path, change, says):
    foreign(tmp_path / 'db', **change)
    with pytest.raises(CorpusError, match=says) as e:
        read_corpora(tmp_path / 'db', jobs=1)
    assert str(tmp_path / 'db') in str(e.value)


def test_a_file_that_is_missing_is_in_the_report(tmp_path):
    foreign(tmp_path / 'db')
    (tmp_path / 'db' / 'wav' / '1' / 'a.wav').unlink()
    manifest, report = read_corpora(tmp_path / 'db', jobs=1)
    assert manifest['clip'].tolist() == ['other/wav_2_a'] and 'missing file' in set(report.problem)


BOMB = 'a: &a [x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'{b}: &{b} [{", ".join([f"*{a}"] * 9)}]\n' for a, b in zip('abcdefgh', 'bcdefghi')
)


@pytest.mark.parametrize(
    'header',
    [
        '',
        '[]',
        'tables: 1',
        'tables: {emotion: 1}',
        'tables: {emotion: {type: filewise, columns: [emotion]}}',
        'tables: {../x: {type: filewise, columns: {emotion: {}}}}',
        'tables: {1: {type: filewise}}',
        '\0',
        'schemes: {speaker: 3}',
        BOMB,
        BOMB + 'schemes: *i\n',
        BOMB + 'languages: *i\ntables: *i\n',
        BOMB
        + 'schemes: {speaker: {labels: {3: {gender: *i}}}}\ntables: {emotion: {type: filewise, columns: {emotion: {scheme_id: *i}}}}\n',
    ],
)
def test_a_header_that_is_none(tmp_path, header):
    foreign(tmp_path / 'db')
    (tmp_path / 'db' / 'db.yaml').write_text(header)
    with pytest.raises(CorpusError) as e:
        read_corpora(tmp_path / 'db', jobs=1)
    assert 'db' in str(e.value) and len(str(e.value)) < 3000


def test_no_code_of_a_database_is_run(tmp_path):
    "A header that builds objects and a pickled table: both do run where audformat loads them, and not here."

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / 'pickled',)

    foreign(tmp_path / 'db')
    (tmp_path / 'db' / 'db.emotion.pkl').write_bytes(pickle.dumps(Evil()))
    assert (
        len(read_corpora(tmp_path / 'db', jobs=1)[0]) == 2 and not (tmp_path / 'pickled').exists()
    )
    with suppress(Exception):
        audformat.Database.load(str(tmp_path / 'db'), load_data=True)
    assert (tmp_path / 'pickled').exists()

    (tmp_path / 'db' / 'db.yaml').write_text(
        f'name: x\nevil: !!python/object/apply:os.mkdir [{tmp_path / "built"}]\n'
    )
    with pytest.raises(CorpusError, match='no header'):
        read_corpora(tmp_path / 'db', jobs=1)
    assert not (tmp_path / 'built').exists()
    with suppress(Exception):
        audformat.Database.load(str(tmp_path / 'db'))
    assert (tmp_path / 'built').exists()


def test_a_folder_that_holds_something_is_left_alone(made, tmp_path):
    _, manifest, split = made
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('x')
    for folder in ('mine', 'mine/thesis.tex'):
        with pytest.raises(StoreError, match='holds something already'):
            export(manifest, tmp_path / folder, 'emobox', split)
    with pytest.raises(CorpusError, match='1 of .* clips are missing'):
        export(
            manifest.assign(path=[str(tmp_path / 'gone.wav'), *manifest.path[1:]]),
            tmp_path / 'new',
            'audformat',
        )
    with pytest.raises(CorpusError, match='no speaker'):
        export(manifest.assign(speaker=None), tmp_path / 'new', 'audformat')
    assert [p.name for p in tmp_path.rglob('*')] == ['mine', 'thesis.tex']
    (tmp_path / 'empty').mkdir()
    assert export(manifest, tmp_path / 'empty', 'emobox') == tmp_path / 'empty' / 'downloads'


@pytest.mark.parametrize('what', ['manifest', 'split'])
def test_the_command(made, tmp_path, what):
    root, manifest, split = made
    source = (
        tmp_path / 'manifest.csv'
        if what == 'manifest'
        else save_split(split, manifest, tmp_path / 'data')
    )
    save_manifest(manifest, source if what == 'manifest' else source / 'manifest.csv')

    def run(*args):
        return CliRunner().invoke(app, list(map(str, args)))

    done = run('export', source, tmp_path / 'out', '--format', 'nkululeko')
    assert (
        done.exit_code == 0
        and ('augmented copies are left out' in done.output)
        == (what == 'split')
        == (tmp_path / 'out' / 'split.ini').exists()
    ), done.output
    back = run(
        *done.output.split('read again with: speaker-vgg-cct ')[1].split(),
        '--out',
        tmp_path / 'again',
        '--jobs',
        1,
    )
    assert (
        back.exit_code == 0
        and f'{len(manifest)} clips in' in back.output
        and '0 lines on problems' in back.output
    ), back.output
    assert run('export', source, tmp_path / 'out', '--format', 'nkululeko').exit_code == 1
