"Hundreds of files that are no clips, or hardly: each is an answer or one typed error, and the good ones beside them are done."

import csv
import errno
import os
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from test_formats import encode, mute

from speaker_vgg_cct.core import AudioError
from speaker_vgg_cct.data.audio import SAMPLE_RATE, load_audio
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.synthetic import clip
from speaker_vgg_cct.inference.recognizer import SHIPPED, Recognizer, sources_of

FORMS = 'wav', 'flac', 'mp3', 'ogg', 'aiff', 'm4a'


def write_bad(folder):
    "About 300 files; returns their names."
    rng, y = random.Random(0), clip('sad')
    good = {}
    for form in FORMS:
        if form == 'm4a':
            encode(folder / 'whole_m4a.m4a', 'ipod', 'aac', SAMPLE_RATE, [y])
        else:
            sf.write(folder / f'whole_{form}.{form}', y, SAMPLE_RATE)
        good[form] = (folder / f'whole_{form}.{form}').read_bytes()
    for form, data in good.items():
        for i in range(25):
            (folder / f'cut{i}_{form}.{form}').write_bytes(data[: int(len(data) * i / 25)])
        for i in range(25):
            broken = bytearray(data)
            for _ in range(4):
                broken[rng.randrange(len(broken) if i % 2 else 200)] ^= 1 << rng.randrange(8)
            (folder / f'flipped{i}_{form}.{form}').write_bytes(broken)
        other = rng.choice([f for f in good if f != form])
        (folder / f'{form}_called_{other}.{other}').write_bytes(data)
    for form in good:
        (folder / f'text_{form}.{form}').write_text('this is no sound')
        (folder / f'page_{form}.{form}').write_text('<!DOCTYPE html><html>404 Not Found</html>')
        (folder / f'zeros_{form}.{form}').write_bytes(b'\0' * 4096)
        (folder / f'random_{form}.{form}').write_bytes(rng.randbytes(4096))
    for name, value in (('nan', np.nan), ('inf', np.inf), ('minus_inf', -np.inf)):
        z = y.copy()
        z[len(z) // 2] = value
        sf.write(folder / f'{name}.wav', z, SAMPLE_RATE, subtype='FLOAT')
    mute(folder / 'mute.mp4')
    sf.write(folder / 'gsm.wav', y[::2], 8000, subtype='GSM610')
    sf.write(folder / 'silent.wav', np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    sf.write(folder / 'one_sample.wav', np.ones(1) * 0.5, SAMPLE_RATE)
    sf.write(folder / 'short.wav', y[:400], SAMPLE_RATE)
    sf.write(folder / 'eight_bits.wav', y, SAMPLE_RATE, subtype='PCM_U8')
    sf.write(folder / 'six_channels.wav', np.stack([y] * 6, 1), SAMPLE_RATE)
    sf.write(folder / 'high_rate.wav', np.repeat(y, 12), 192000)
    sf.write(folder / 'low_rate.wav', y[::8], 2000)
    sf.write(folder / 'name_é_日本.wav', y, SAMPLE_RATE)
    sf.write(folder / f'name_{"x" * 200}.wav', y, SAMPLE_RATE)
    sf.write(folder / 'too_loud.wav', np.append(y, np.float32(1e30)), SAMPLE_RATE, subtype='FLOAT')
    sf.write(folder / 'long.mp3', np.tile(y, 10), SAMPLE_RATE)
    (folder / 'long_cut.mp3').write_bytes((folder / 'long.mp3').read_bytes()[:30000])
    (folder / 'huge.wav').write_bytes(
        b'RIFF'
        + struct.pack('<I', 2**32 - 1)
        + b'WAVEfmt '
        + struct.pack('<IHHIIHH', 16, 1, 1, 16000, 32000, 2, 16)
        + b'data'
        + struct.pack('<I', 2**32 - 40)
        + b'\0' * 100
    )
    return sorted(f.name for f in folder.iterdir())


@pytest.fixture(scope='module')
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bad') / 'BAD'
    folder.mkdir()
    return folder, write_bad(folder)


def test_each_is_an_answer_or_an_error(bad, record_property):
    folder, names = bad
    record_property('bad inputs', len(names))
    assert len(names) >= 250
    hear = Recognizer.load(SHIPPED)
    answers = dict(zip(names, hear.each(folder / n for n in names)))
    errors = {n: a for n, a in answers.items() if isinstance(a, AudioError)}
    for n, e in errors.items():
        assert n in str(e) and len(str(e)) < 800, e
    for n, a in answers.items():
        if n not in errors:
            assert sum(a.probabilities.values()) == pytest.approx(1) and a.seconds > 0
    for n in names:
        kind = (
            n.split('.')[0].rsplit('_', 1)[0]
            if n.split('.')[0].rsplit('_', 1)[-1] in FORMS
            else n.split('.')[0]
        )
        if (
            kind in ('whole', 'eight_bits', 'gsm', 'six_channels', 'high_rate', 'name_é_日本')
            or '_called' in kind
        ):
            assert n not in errors, (n, errors.get(n))  # what a file is, its content says
        if (
            kind
            in (
                'text',
                'page',
                'zeros',
                'random',
                'nan',
                'inf',
                'minus_inf',
                'too_loud',
                'silent',
                'one_sample',
                'huge',
                'mute',
                'cut0',
            )
            or kind.startswith('cut')
            and n.endswith(('wav', 'aiff', 'flac', 'm4a'))
        ):
            assert n in errors, n


def test_a_folder_that_may_not_be_read_is_an_error_of_its_own(tmp_path, monkeypatch):
    for name in ('open', 'shut', '.hidden'):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / 'a.wav', clip('sad'), SAMPLE_RATE)
    real = os.scandir

    def scandir(path):  # the superuser, as whom tests may run, may read everything
        if Path(path).name in ('shut', '.hidden'):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return real(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    found = sources_of(tmp_path)
    assert found == [tmp_path / 'open' / 'a.wav', tmp_path / 'shut']
    heard, refused = Recognizer.load(SHIPPED).each(found)
    assert (
        heard.seconds > 0
        and 'shut: is a folder' in str(refused)
        and 'may not be read' in str(refused)
    )


def test_a_corpus_of_them_loses_none(bad):
    "Each file is in the manifest or in the report, and the cache of the second call changes nothing."
    folder, names = bad
    with open(folder / 'metadata.csv', 'w', newline='', encoding='utf-8') as f:
        csv.writer(f).writerows(
            [('file', 'emotion', 'speaker'), *((n, 'sad', i % 4) for i, n in enumerate(names))]
        )
    manifest, report = read_corpora(folder, jobs=1, cache=folder.parent / 'clips.csv')
    again, report_again = read_corpora(folder, jobs=1, cache=folder.parent / 'clips.csv')
    left_out = {p.rsplit('/', 1)[-1] for p in report.file[report.left_out]}
    used = {p.rsplit('/', 1)[-1] for p in manifest.path}
    assert not used & left_out and used | left_out == set(names)
    assert manifest.equals(again) and report.equals(report_again)


@pytest.mark.slow
def test_three_hours_in_little_memory(tmp_path, record_property):
    "A recording of three hours: no clip of a corpus, but heard window by window, in no more memory than a short one."
    speech = (clip('sad')[::2] * 32767).astype(np.int16)
    with sf.SoundFile(tmp_path / 'hours.wav', 'w', 8000, 2, 'PCM_U8') as f:
        for minute in range(181):
            y = np.zeros(8000 * 60, np.int16)
            if minute % 60 == 30:
                y[: len(speech)] = speech
            f.write(np.stack([y, y], 1))
    hear = Recognizer.load(SHIPPED)
    tracemalloc.start()  # counts what Python and NumPy ask for, whatever the system then gives
    answer = hear(tmp_path / 'hours.wav')
    assert answer.seconds == 181 * 60 and {
        round(start / 3600, 1) for start, _ in answer.windows
    } == {0.5, 1.5, 2.5}
    with pytest.raises(AudioError, match='hours.wav: is longer than an hour'):
        load_audio(tmp_path / 'hours.wav')
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2e8, 'bytes at once, of 700 MB of samples'
    record_property('bad inputs', 1)
