"What people give to a recogniser in place of a file, and a recogniser in other processes."

import io
import multiprocessing

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from joblib import Parallel, delayed

from speaker_vgg_cct.core import AudioError
from speaker_vgg_cct.data.audio import SAMPLE_RATE
from speaker_vgg_cct.data.synthetic import clip
from speaker_vgg_cct.inference import recognizer
from speaker_vgg_cct.inference.recognizer import SHIPPED, Recognizer

Y = clip('sad', 1)


@pytest.fixture(scope='module')
def hear():
    return Recognizer.load(SHIPPED)


@pytest.fixture
def file(tmp_path):
    sf.write(tmp_path / 'a.wav', Y, SAMPLE_RATE, subtype='FLOAT')
    return tmp_path / 'a.wav'


def near(answer, other):
    return list(answer.probabilities.values()) == pytest.approx(
        list(other.probabilities.values()), abs=1e-3
    )


def test_arrays_of_every_kind_say_the_same(hear, file):
    torch = pytest.importorskip('torch')
    plain = hear(file)
    for y in (
        Y,
        Y.astype(float),
        Y.astype(np.float16),
        (Y * 2**15).astype(np.int16),
        (Y.astype(float) * 2**31).astype(np.int32),
        (Y.astype(float) * 2**63).astype(np.int64),
        Y.astype(object),
        Y.tolist(),
        tuple(Y.tolist()),
        pd.Series(Y),
        torch.tensor(Y),
        Y[:, None],
        Y[None],
        np.stack([Y, Y], 1),
        np.stack([Y, -Y], 1),
    ):
        answer = hear(y, SAMPLE_RATE)
        assert not isinstance(answer, list) and near(answer, plain), type(y)
    assert near(hear((Y, SAMPLE_RATE)), plain) and near(
        hear((SAMPLE_RATE, (Y * 2**15).astype(np.int16))), plain
    )
    assert [near(a, plain) for a in hear([Y, Y.tolist(), file, (SAMPLE_RATE, Y)], SAMPLE_RATE)] == [
        True
    ] * 4
    assert isinstance(hear(pd.Series([str(file)] * 2)), list)


def test_samples_have_no_name_of_a_file(hear):
    torch = pytest.importorskip('torch')
    for y in (pd.Series(Y), pd.Series(Y, name=0), torch.tensor(Y), Y.tolist()):
        assert hear(y, sr=16000).source == 'array'
    with pytest.raises(AudioError, match='^array: is silent'):
        hear(0 * pd.Series(Y), sr=16000)


def test_open_files_wherever_they_stand(hear, file):
    plain, data = hear(file), file.read_bytes()
    with open(file, 'rb') as f:
        f.seek(0, io.SEEK_END)
        assert near(hear(f), plain)

    class Pipe(io.RawIOBase):  # cannot seek
        def __init__(self):
            self.inner = io.BytesIO(data)

        def readable(self):
            return True

        def read(self, n=-1):
            return self.inner.read(n)

    for given in (data, bytearray(data), memoryview(data), io.BytesIO(data), Pipe()):
        assert near(hear(given), plain)


def test_a_long_open_file_is_read_again_from_its_beginning(hear, tmp_path):
    sf.write(tmp_path / 'long.flac', np.resize(Y, 20 * SAMPLE_RATE), SAMPLE_RATE)
    with open(tmp_path / 'long.flac', 'rb') as f:
        answer = hear(f)
    assert answer.seconds == 20 and near(answer, hear(tmp_path / 'long.flac'))


@pytest.mark.parametrize(
    'error',
    [ValueError('odd'), RuntimeError(), KeyError('odd'), MemoryError(), AssertionError('odd')],
)
def test_no_exception_of_one_file_ends_the_others(hear, file, monkeypatch, error):
    odd = file.with_name('odd.wav')
    odd.write_bytes(file.read_bytes())
    load, picture = recognizer.load_audio, Recognizer.picture

    def failing(source, **more):
        if source == odd:
            raise error
        return load(source, **more)

    monkeypatch.setattr(recognizer, 'load_audio', failing)
    kinds = [type(a).__name__ for a in hear.each([file, odd, file])]
    assert kinds == ['Recognition', 'AudioError', 'Recognition']
    monkeypatch.setattr(recognizer, 'load_audio', load)
    probabilities = Recognizer.probabilities

    def failing_network(self, clips, pictures=None):
        if any(len(y) < 20000 for y in clips):
            raise error
        return probabilities(self, clips, pictures)

    sf.write(odd, Y[:16000], SAMPLE_RATE)
    monkeypatch.setattr(Recognizer, 'probabilities', failing_network)
    answers = list(hear.each([file, odd, file]))
    assert [type(a).__name__ for a in answers] == [
        'Recognition',
        'AudioError',
        'Recognition',
    ] and 'odd.wav: cannot be used' in str(answers[1])
    assert picture is Recognizer.picture


def test_joblib_and_spawned_processes(hear, file):
    plain = hear(file)
    for answer in Parallel(2)(delayed(hear)(str(file)) for _ in range(2)):
        assert near(answer, plain)
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        assert near(pool.apply(hear, [str(file)]), plain)


def test_the_rate_is_checked(hear):
    for rate in (0, -1, float('nan'), '16000', 16, True, None):
        with pytest.raises(Exception, match='sampling rate'):
            hear(Y, rate)
    for given in ('', None, 3, [Y, 3], {'a': Y}):
        with pytest.raises(AudioError):
            hear(given, SAMPLE_RATE)
