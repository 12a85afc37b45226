"The importers against real corpora: labels read from file names equal the labels that were made independently of us."
import csv

import numpy as np
import pytest
import soundfile as sf

from speaker_vgg_cct import corpora
from speaker_vgg_cct.corpora import find_corpora, label_counts, load_manifest, read_corpora, read_labels, save_manifest

CORPORA = ('EMODB', 'EMOVO', 'RAVDESS', 'NEMO')
UPSTREAM = {'EMODB': lambda r: 'wav', 'EMOVO': lambda r: r['speaker'], 'RAVDESS': lambda r: f"Actor_{r['speaker']}", 'NEMO': lambda r: 'samples'}


def metadata(shared, name):
    "Rows of a corpus's metadata.csv, with `stem` and the speaker as in the manifest."
    with open(shared/'corpora'/name/'metadata.csv', encoding='utf-8') as f: rows = list(csv.DictReader(f))
    return [{**r, 'stem': r['file'].split('/')[-1].rsplit('.', 1)[0]} for r in rows]


def lay_out(shared, name, to, folder):
    "Links the clips of a corpus into `to`, each into the subfolder that `folder` says, without metadata.csv."
    for r in metadata(shared, name):
        f = to/folder(r)/f"{r['stem']}.flac"
        f.parent.mkdir(parents=True, exist_ok=True); f.symlink_to(shared/'corpora'/name/r['file'])


def same_labels(shared, name, labels):
    want = {(f"{name}/{r['stem']}", r['emotion'], f"{name}/{r['speaker']}", r['gender'], r['language']) for r in metadata(shared, name)}
    got = set(labels[['clip', 'emotion', 'speaker', 'gender', 'language']].itertuples(index=False, name=None))
    assert len(got) == len(labels) and got == want
    assert (labels.corpus == name).all() and labels.sentence.notna().all() and not labels.synthetic.any()


@pytest.mark.parametrize('name', CORPORA)
@pytest.mark.parametrize('called', ['own', 'another'])
@pytest.mark.parametrize('layout', ['upstream', 'flat'])
def test_labels_from_file_names(shared, tmp_path, name, called, layout):
    corpus = tmp_path/(name if called == 'own' else 'downloads')
    lay_out(shared, name, corpus, UPSTREAM[name] if layout == 'upstream' else lambda r: '')
    for folder in (tmp_path, corpus): # a folder of corpora, and the corpus itself
        labels, report = read_labels(folder)
        same_labels(shared, name, labels)
        assert not len(report)


def test_all_upstream_together(shared, tmp_path):
    for n, name in enumerate(CORPORA): lay_out(shared, name, tmp_path/f'part{n}', UPSTREAM[name])
    assert sorted(find_corpora(tmp_path)) == sorted(CORPORA)
    labels, report = read_labels(tmp_path)
    assert not len(report)
    for name in CORPORA: same_labels(shared, name, labels[labels.corpus == name])


def test_reference_layout_of_real_clips(shared, tmp_path):
    rows = metadata(shared, 'EMOVO')
    for r in rows:
        f = tmp_path/'EMOVO'/'EMOVO_wav'/f"{r['emotion']}_emovo_{r['speaker']}_{r['stem']}.flac"
        f.parent.mkdir(parents=True, exist_ok=True); f.symlink_to(shared/'corpora'/'EMOVO'/r['file'])
    labels, report = read_labels(tmp_path)
    assert not len(report) and set(labels.language) == {'it'}
    assert sorted(zip(labels.emotion, labels.speaker)) == sorted((r['emotion'], f"EMOVO/{r['speaker']}") for r in rows)


@pytest.mark.parametrize('name', CORPORA)
def test_metadata_csv_of_real_corpora(shared, tmp_path, name):
    "The same labels once more through metadata.csv, from a folder whose file names say nothing."
    (tmp_path/'mine').mkdir()
    rows = metadata(shared, name)
    for i, r in enumerate(rows): (tmp_path/'mine'/f'{i}.flac').symlink_to(shared/'corpora'/name/r['file'])
    with open(tmp_path/'mine'/'metadata.csv', 'w', encoding='utf-8', newline='') as f:
        w = csv.writer(f); w.writerow(('file', 'emotion', 'speaker', 'gender', 'language'))
        w.writerows((f'{i}.flac', r['emotion'], r['speaker'], r['gender'], r['language']) for i, r in enumerate(rows))
    labels, report = read_labels(tmp_path)
    assert not len(report)
    key = lambda l: [f"mine/{l['speaker']}", *(l[c] for c in ('emotion', 'gender', 'language'))]
    assert sorted(labels[['speaker', 'emotion', 'gender', 'language']].values.tolist()) == sorted(map(key, rows))


def test_real_manifest(shared, tmp_path, monkeypatch):
    manifest, report = read_corpora(shared/'corpora', cache=tmp_path/'cache.csv')
    for name in CORPORA: same_labels(shared, name, manifest[manifest.corpus == name])
    assert manifest.seconds.between(.8, 14.1).all() and manifest.sha256.str.fullmatch('[0-9a-f]{64}').all()
    twins = report[report.problem == 'identical']
    assert sorted(f.rsplit('/', 1)[-1] for f in twins.file) == ['03-01-03-01-02-01-07.flac', '03-01-03-01-02-02-07.flac']
    assert not report.left_out.any()
    assert label_counts(manifest).sum(axis=1).to_dict() == {name: len(metadata(shared, name)) for name in CORPORA}

    monkeypatch.setattr(corpora, 'inspect_clip', None) # nothing is decoded a second time
    again, _ = read_corpora(shared/'corpora', cache=tmp_path/'cache.csv')
    for ending in ('csv', 'parquet'):
        save_manifest(again, tmp_path/f'm.{ending}')
        assert load_manifest(tmp_path/f'm.{ending}').equals(manifest)


def test_interrupted_work_is_kept(tmp_path, monkeypatch):
    "What was measured before an interruption is not measured again."
    for i in range(6): sf.write(tmp_path/f'{i}.wav', np.full(8000, .1*i), 16000)
    paths, cache, real, done = [tmp_path/f'{i}.wav' for i in range(6)], tmp_path/'cache.csv', corpora.inspect_clip, []
    def interrupted(p):
        if len(done) == 3: raise KeyboardInterrupt
        done.append(p); return real(p)
    monkeypatch.setattr(corpora, 'inspect_clip', interrupted)
    with pytest.raises(KeyboardInterrupt): corpora.inspect_clips(paths, jobs=1, cache=cache)
    monkeypatch.setattr(corpora, 'inspect_clip', lambda p: (done.append(p), real(p))[1])
    rows = corpora.inspect_clips(paths, jobs=1, cache=cache)
    assert len(done) == len(set(map(str, done))) == 6 and rows == [real(p) for p in paths]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(['cache.csv', *(p.name for p in paths)])
