"A bundle through the command line, as someone would use it who has nothing but clips."

import csv
import io
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from test_formats import encode
from typer.testing import CliRunner

from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.data.audio import load_audio
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.inference import streaming as live
from speaker_vgg_cct.inference.recognizer import SHIPPED, read_bundle


def run(*args, **more):
    return CliRunner().invoke(app, list(map(str, args)), **more)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    "The same second of speech in many forms, and what is none."
    root = tmp_path_factory.mktemp('clips')
    voices = sorted((build(root / 'corpora', sentences=1) / 'SYNTH_A').rglob('*.wav'))
    y = load_audio(voices[0])
    (root / 'in').mkdir()
    for ending in ('wav', 'flac', 'mp3', 'ogg', 'aiff'):
        sf.write(root / 'in' / f'clip.{ending}', y, 16000)
    sf.write(root / 'stereo8k.wav', np.stack([y, y], 1)[::2], 8000)
    (root / 'text.wav').write_text('this is no sound')
    (root / 'empty.wav').write_bytes(b'')
    sf.write(
        root / 'long.wav',
        np.resize(np.concatenate([load_audio(v) for v in voices[:8]]), 16000 * 60),
        16000,
    )
    return root


@pytest.fixture(scope='module')
def model(tmp_path_factory, clips):
    "A small model of our own, trained on few synthetic clips."
    to = tmp_path_factory.mktemp('model') / 'm.svc'
    done = run(
        'bundle',
        '-o',
        to,
        '--corpora',
        clips / 'corpora',
        '--out',
        to.parent,
        '--device',
        'cpu',
        '--jobs',
        1,
    )
    assert done.exit_code == 0 and 'synthetic voices' in done.output and to.stat().st_size < 20e6, (
        done.output
    )
    return to


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_format_sounds_alike(model, clips):
    done = run('predict', clips / 'in', clips / 'stereo8k.wav', '-m', model, '--json')
    assert done.exit_code == 0, done.output
    found = {Path(r['source']).name: r for r in rows(done)}
    assert set(found) == {
        'clip.wav',
        'clip.flac',
        'clip.mp3',
        'clip.ogg',
        'clip.aiff',
        'stereo8k.wav',
    }
    for r in found.values():
        assert sum(v for k, v in r.items() if k.startswith('p_')) == pytest.approx(1, abs=1e-3)
    for same in ('clip.flac', 'clip.aiff'):
        assert found[same]['p_sad'] == pytest.approx(found['clip.wav']['p_sad'], abs=2e-3)
    assert found['clip.mp3']['p_sad'] == pytest.approx(found['clip.wav']['p_sad'], abs=0.15)


def test_bad_files_are_rows_and_the_others_are_done(model, clips):
    args = (
        'predict',
        clips / 'text.wav',
        clips / 'in' / 'clip.wav',
        clips / 'empty.wav',
        clips / 'absent.wav',
        clips / 'none-*.wav',
        clips / 'in' / 'clip.flac',
        '-m',
        model,
    )
    done = run(*args, '--json')
    found = rows(done)
    assert done.exit_code == 1 and '4 of 6 could not be used' in done.stderr
    assert ['error' in r for r in found] == [
        True,
        False,
        True,
        True,
        True,
        False,
    ] and 'cannot be decoded' in found[0]['error']
    table = run(*args)
    assert table.exit_code == 1 and table.stdout.count('error:') == 4 and 'text.wav' in table.stdout
    read = list(csv.DictReader(io.StringIO(run(*args, '--csv').stdout)))
    assert len(read) == 6 and read[0]['error'] and read[1]['label'] and not read[1]['error']


def test_what_is_not_there_or_says_nothing_is_named(model, clips, monkeypatch):
    "Never the current folder, and `~` is a person's own."
    monkeypatch.setenv('HOME', str(clips / 'in'))
    monkeypatch.chdir(clips / 'in')
    done = run('predict', '', '~/clip.wav', '~/absent.wav', 'no*.wav', '-m', model, '--json')
    found = rows(done)
    assert done.exit_code == 1 and len(found) == 4 and '3 of 4 could not be used' in done.stderr
    assert (
        'an empty name is no file' in found[0]['error']
        and found[1]['source'] == str(clips / 'in' / 'clip.wav')
        and found[1]['label']
    )
    assert (
        'there is no such file' in found[2]['error']
        and found[2]['source'].endswith('absent.wav')
        and found[3]
        == dict(source='no*.wav', error="no file is named so (got 'no*.wav'). Check the pattern")
    )


def test_a_folder_of_all_kinds(model, clips, tmp_path):
    "GSM, which cannot seek, AAC, a header of 0 bytes, and what is no sound: each is a row."
    y = load_audio(clips / 'in' / 'clip.wav')
    sf.write(tmp_path / 'gsm.wav', y[::2], 8000, subtype='GSM610')
    encode(tmp_path / 'phone.m4a', 'ipod', 'aac', 16000, [y])
    encode(tmp_path / 'film.mp4', 'mp4', 'aac', 16000, [y], picture=True)
    sf.write(tmp_path / 'zero.wav', y, 16000)
    data = bytearray((tmp_path / 'zero.wav').read_bytes())
    data[4:8] = data[40:44] = bytes(4)
    (tmp_path / 'zero.wav').write_bytes(data)
    (tmp_path / 'text.mp3').write_text('this is no sound')
    (tmp_path / 'notes.txt').write_text('this is no sound')
    done = run('predict', tmp_path, '-m', model, '--json')
    found = {Path(r['source']).name: r for r in rows(done)}
    assert (
        set(found) == {'gsm.wav', 'phone.m4a', 'film.mp4', 'zero.wav', 'text.mp3'}
        and done.exit_code == 1
    )
    assert [n for n, r in found.items() if 'error' in r] == ['text.mp3'], found
    assert (
        'zero.wav: its header says 0 bytes' in done.stderr
        and 'passed over: 1 .txt' in done.stderr
        and '1 of 5' in done.stderr
    )
    plain = rows(run('predict', clips / 'in' / 'clip.wav', '-m', model, '--json'))[0]
    assert found['zero.wav']['p_sad'] == pytest.approx(plain['p_sad'], abs=1e-3)
    done = run('predict', tmp_path / 'none', '-m', model)
    (tmp_path / 'none').mkdir()
    (tmp_path / 'none' / 'a.pdf').touch()
    assert (
        'there is no such file' in done.stdout
        and 'only 1 .pdf' in run('predict', tmp_path / 'none', '-m', model).stdout
    )


def test_a_long_file_is_heard_in_windows(model, clips):
    [r] = rows(run('predict', clips / 'long.wav', '-m', model, '--json'))
    assert (
        r['seconds'] == 60
        and len(r['windows']) > 10
        and r['windows'][0].keys() >= {'start', 'p_sad'}
    )


def test_standard_input(model, clips):
    done = run(
        'predict', '-', '-m', model, '--json', input=(clips / 'in' / 'clip.wav').read_bytes()
    )
    [there] = rows(run('predict', clips / 'in' / 'clip.wav', '-m', model, '--json'))
    [r] = rows(done)
    assert done.exit_code == 0 and r['p_sad'] == there['p_sad']


@pytest.mark.parametrize(
    'args, why',
    [
        (('predict', 'x.wav', '--json', '--csv'), 'exclude each other'),
        (('predict', 'x.wav', '-m', 'absent.svc'), 'is no file'),
        (('listen', '--file', 'absent.wav'), 'there is no such file'),
        (('bundle', 'absent'), 'is not a trained run'),
        (('listen', '--file', 'x.wav', '--hop', '9'), 'at most the window'),
    ],
)
def test_what_cannot_be_is_one_line_and_status_1(model, args, why):
    args = args if '-m' in args or args[0] == 'bundle' else (*args, '-m', model)
    done = run(*args)
    assert done.exit_code == 1 and why in done.stderr and 'Traceback' not in done.output


def test_listen_plays_a_file_at_its_own_speed_and_looks_at_each_window(model, clips, monkeypatch):
    """By a clock that goes on when a sleep is asked for, and with windows that wait to be taken.

    Whether a machine keeps up is measured by `latency`."""
    y, slept = load_audio(clips / 'long.wav')[: 16000 * 6], []
    sf.write(clips / 'six.wav', y, 16000)
    monkeypatch.setattr(live, '_now', lambda: sum(slept))
    monkeypatch.setattr(live, '_sleep', slept.append)
    waiting = partial(live.Windows, drop=False)
    monkeypatch.setattr(
        live, 'Windows', lambda blocks, window, hop, drop: waiting(blocks, window, hop)
    )
    done = run('listen', '--file', clips / 'six.wav', '-m', model, '--lines')
    assert done.exit_code == 0 and '6.0 s heard, 0 windows dropped' in done.stderr, done.output
    assert len(done.stdout.splitlines()) == 12, done.output
    assert sum(slept) == pytest.approx(6, abs=0.01)


def test_both_runtimes_say_the_same(model, clips):
    a, b = (
        json.loads(
            run('predict', clips / 'in' / 'clip.wav', '-m', model, '--json', '--runtime', r).stdout
        )
        for r in ('torch', 'onnx')
    )
    probabilities = [k for k in a if k.startswith('p_')]
    assert [a[k] for k in probabilities] == pytest.approx(
        [b[k] for k in probabilities], abs=2e-4
    ) and len(probabilities) == 4


def test_the_shipped_bundle_is_small_and_says_what_it_is(clips):
    assert SHIPPED.stat().st_size < 20e6
    told = read_bundle(SHIPPED)[1]
    assert told['synthetic'] and 'knows nothing of people' in told['card']
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            'from speaker_vgg_cct.cli.command import start; start()',
            'predict',
            str(clips / 'in' / 'clip.wav'),
            '--json',
        ],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 0
        and json.loads(done.stdout)['label'] in told['classes']
        and 'synthetic voices' in done.stderr
    ), done.stderr
    light = "import sys; from speaker_vgg_cct.cli.inference import app; app(sys.argv[1:], standalone_mode=False); print({'torch', 'timm', 'librosa', 'matplotlib', 'scipy.signal', 'opensmile', 'pandas'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, '-c', light, 'predict', str(clips / 'in' / 'clip.wav'), '--json'],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == 'set()', (
        'the first answer waits for modules that it does not need'
    )
