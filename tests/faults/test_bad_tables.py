"Tables, options and studies that are none, or hardly: one typed error each that names the file, and little memory."

import tracemalloc
from dataclasses import fields

import pytest
import yaml

from speaker_vgg_cct.config import Config
from speaker_vgg_cct.core import SVCError
from speaker_vgg_cct.data.corpora import COLUMNS, load_manifest, read_labels, read_words
from speaker_vgg_cct.experiments.results import read_runs
from speaker_vgg_cct.experiments.study import read_systems
from speaker_vgg_cct.training.loop import config_of, load_config

ROW = dict.fromkeys(COLUMNS, 'x') | dict(
    clip='A/1',
    path='a.wav',
    corpus='A',
    speaker='A/s',
    emotion='sad',
    seconds='1.0',
    synthetic='False',
)
HEAD = ','.join(COLUMNS)


def line(**changes):
    return ','.join(str((ROW | changes)[c]) for c in COLUMNS)


BOMB = 'a: &a [x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'{b}: &{b} [{", ".join([f"*{a}"] * 9)}]\n' for a, b in zip('abcdefgh', 'bcdefghi')
)
MANIFESTS = {
    'nothing': b'',
    'only a head': HEAD.encode(),
    'no head': line().encode(),
    'a column too few': '\n'.join([HEAD.replace('speaker,', ''), line()]).encode(),
    'another encoding': '\n'.join([HEAD, line(sentence='f\xfcr')]).encode('latin-1'),
    'UTF-16': '\n'.join([HEAD, line()]).encode('utf-16'),
    'zeros': b'\0' * 5000,
    'no speaker': '\n'.join([HEAD, line(speaker='')]).encode(),
    'no emotion': '\n'.join([HEAD, line(emotion='')]).encode(),
    'unknown emotion': '\n'.join([HEAD, line(emotion='hangry')]).encode(),
    'a formula for an emotion': '\n'.join([HEAD, line(emotion='=cmd|calc')]).encode(),
    'one clip twice': '\n'.join([HEAD, line(), line(path='b.wav')]).encode(),
    'seconds that are none': '\n'.join([HEAD, line(seconds='long')]).encode(),
    'synthetic that is neither': '\n'.join([HEAD, line(synthetic='perhaps')]).encode(),
    'an open quote': '\n'.join([HEAD, line(sentence='"open')]).encode(),
    'ragged': '\n'.join([HEAD, line() + ',x' * 50, line()]).encode(),
    'HTML': b'<!DOCTYPE html><html>404</html>',
}


@pytest.fixture(autouse=True)
def little_memory(record_property, request):
    record_property('bad inputs', len(WRONG) if 'field' in request.fixturenames else 1)
    tracemalloc.start()  # counts what Python asks for, whatever the system then gives
    yield
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2e8, 'bytes at once'


@pytest.mark.parametrize('what', MANIFESTS)
@pytest.mark.parametrize('ending', ['.csv', '.parquet'])
def test_manifest(tmp_path, what, ending):
    file = tmp_path / f'x{ending}'
    file.write_bytes(MANIFESTS[what])
    if (what, ending) == ('only a head', '.csv'):
        return load_manifest(file)  # a table of no clips is one
    with pytest.raises(SVCError) as e:
        load_manifest(file)
    assert (
        e.type.__name__ != 'SVCError'
        and ('x' + ending in str(e.value) or 'a.wav' in str(e.value) or 'b.wav' in str(e.value))
        and len(str(e.value)) < 2000
    )


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'\0\1\2',
        b'[1, 2]',
        b'a: b: c',
        b'\xff\xfe',
        b'epochs: [',
        BOMB.encode(),
        f'{BOMB}epochs: *i\n'.encode(),
        b'<html>',
        b'epochs: 1\nepochs: !!python/name:os.system',
    ],
)
@pytest.mark.parametrize(
    'read',
    [load_config, read_systems, lambda f: read_runs(f.parent)],
    ids=['preset', 'study', 'results'],
)
def test_yaml_and_results(tmp_path, data, read):
    file = tmp_path / ('runs.csv' if 'lambda' in repr(read) else 'x.yaml')
    file.write_bytes(data)
    if data == b'' and read is load_config:
        return load_config(file)  # says nothing, so all is as by default
    with pytest.raises(SVCError) as e:
        read(file)
    assert file.name in str(e.value) and len(str(e.value)) < 3000


WRONG = [[], {}, [1, 2, 3, 4], 'x' * 10000, float('nan'), float('inf'), -1e12, '\0', True, {'a': 1}]


@pytest.mark.parametrize('field', [f.name for f in fields(Config)])
def test_no_option_takes_nonsense(tmp_path, field):
    "Each option is given ten kinds of nonsense: those that it does not take are an error that names it and the file."
    refused = 0
    for value in WRONG:
        file = tmp_path / 'x.yaml'
        file.write_text(yaml.safe_dump({field: value}))
        try:
            _ = load_config(file).hash
        except SVCError as e:
            refused += 1
            assert field in str(e) and len(str(e)) < 3000, e
    assert refused >= 4


def test_options_that_are_not_there():
    for key in ('epoch', 'EPOCHS', '__class__', 'hash', 'picture', '', 0, None, ('a', 'b')):
        with pytest.raises(SVCError):
            config_of({key: 1})


METADATA = {
    'nothing': b'',
    'only a head': b'file,emotion,speaker\n',
    'UTF-16': 'file,emotion,speaker\na.wav,sad,1\n'.encode('utf-16'),
    'zeros': b'\0' * 5000,
    'an open quote': b'file,emotion,speaker\na.wav,"sad,1\n',
    'a field too many': b'file,emotion,speaker\na.wav,sad,1,5\n',
    'HTML': b'<!DOCTYPE html><html>404</html>',
    'other columns': b'wav,mood,who\na.wav,sad,1\n',
    'two of a kind': b'path;filename;label;speaker_id\na.wav;a.wav;sad;1\n',
    'nobody': b'file,emotion,speaker\na.wav,sad,nan\n',
    'one file twice': b'file,emotion,speaker\na.wav,sad,1\n./a.wav,sad,2\n',
    'a wall of separators': b';' * 100_000,
    'no such file': b'file,emotion,speaker\nb.wav,sad,1\n',
    'unknown words': b'file,emotion,speaker\na.wav,=cmd|calc,1\n',
}


@pytest.mark.parametrize('what', METADATA)
def test_metadata(tmp_path, what):
    (tmp_path / 'a.wav').write_bytes(b'')
    (tmp_path / 'metadata.csv').write_bytes(METADATA[what])
    with pytest.raises(SVCError) as e:
        read_labels(tmp_path)
    assert (
        e.type.__name__ == 'CorpusError'
        and tmp_path.name in str(e.value)
        and len(str(e.value)) < 2000
    )


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'[1, 2]',
        b'a: b: c',
        b'\xff\xfe',
        b'sad',
        b'x: [anger]',
        b'x: 1',
        BOMB.encode(),
        b'x: hangry',
        b'x: !!python/name:os.system',
    ],
)
def test_words(tmp_path, data):
    file = tmp_path / 'labels.yaml'
    file.write_bytes(data)
    with pytest.raises(SVCError) as e:
        read_words(file)
    assert 'labels.yaml' in str(e.value) and len(str(e.value)) < 2000
