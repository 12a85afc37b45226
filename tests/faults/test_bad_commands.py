"Parameters out of their range, on every command: one line that names the option or the value, another status than 0, and nothing half done."

import pytest
import soundfile as sf
from typer.main import get_command
from typer.testing import CliRunner

from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.data.synthetic import build, clip

DIR = '--corpora corpora --out out --jobs 1'
IN = '--corpora corpora --out out --jobs 1 --device cpu'
BAD = {  # verb → what is asked for; the last word is what the message names
    'corpora': [
        'absent|absent',
        'corpora --jobs x|jobs',
        'c.wav|c.wav',
        'corpora --corpora absent|two folders',
        'corpora --labels absent.yaml|absent.yaml',
        '--corpora absent|absent',
    ],
    'spectrograms': [
        f'{DIR} --size 0|0',
        f'{DIR} --size -5|-5',
        f'{DIR} --layout nice|nice',
        f'{DIR} --augmentation shout|shout',
        f'{DIR} --window x|window',
        f'{DIR} --no-spectrogram|no pictures',
    ],
    'embeddings': [
        f'{DIR} --encoder x|x',
        f'{DIR} --encoder vggvox|weights',
        f'{DIR} --encoder vggvox --weights absent.h5|absent.h5',
    ],
    'split': [
        f'{DIR} --test-corpus X|X',
        *(
            f'{DIR} --test-corpus SYNTH_A {o}'
            for o in (
                '--validation nan|nan',
                '--validation 150|150',
                '--balance fair|fair',
                '--task 9|9',
                '--augmentation shout|shout',
                '--train-corpora SYNTH_A|SYNTH_A',
                '--balence fair|--balance',
            )
        ),
    ],
    'export': [
        'absent out --format audformat|absent',
        'c.wav out --format audformat|c.wav',
        'corpora out --format audformat|split',
        'c.wav out --format x|x',
        'c.wav out|format',
    ],
    'train': ['absent|absent', 'corpora|corpora', 'corpora --epoch 3|--epochs'],
    'eval': ['absent --split absent|absent', 'absent|split'],
    'experiment': [
        f'--test-corpus X {IN}|X',
        f'--test-corpus SYNTH_A --preset absent.yaml {IN}|absent',
        f'--test-corpus SYNTH_A --task 9 {IN}|9',
        f'--test-corpus SYNTH_A --epochs -1 {IN}|epochs',
        f'--test-corpus SYNTH_A --lr nan {IN}|lr',
        f'--test-corpus SYNTH_A --seed x {IN}|seed',
    ],
    'report': [f'--test-corpora X {IN}|X', f'--seeds one {IN}|one', f'--batch-size 0 {IN}|batch'],
    'study': [
        f'{IN} --groups x|x',
        f'{IN} --test-corpora X|X',
        '--corpora absent --out out|absent',
        '--corpora corpora --out out --systems absent.yaml|absent.yaml',
    ],
    'rerun': ['absent --corpora corpora|absent'],
    'pretrain': [
        '--leave-out none --out out|nothing to learn',
        f'{DIR} --leave-out X|X',
        f'{DIR} --leave-out none --target x|x',
        f'{DIR} --leave-out none --hide 2|hide',
    ],
    'bundle': [
        'absent|absent',
        f'{IN} --coverage 0 --preset absent.yaml|absent',
        f'{IN} --seed x|seed',
    ],
    'predict': [
        'c.wav --batch 0|batch',
        'c.wav --runtime x|x',
        'c.wav --device tpu|tpu',
        'absent.wav|absent.wav',
        'c.wav -m absent.svc|absent.svc',
        'c.wav --json --csv|exclude',
    ],
    'listen': [
        '--file absent.wav|absent.wav',
        '--file c.wav --smooth 2|smooth',
        '--file c.wav --hop 0|hop',
        '--file c.wav --window -1|hop',
    ],
    'demo': ['--port 99999999|port', '-m absent.svc|absent.svc'],
    'robustness': [
        'absent.svc --corpora corpora|absent.svc',
        'c.wav --corpora corpora|c.wav',
        'absent.svc --clips 0|clips',
    ],
    'latency': ['--runtimes x|x', '--models huge|huge', '--repeats 0|repeats'],
    'cost': [
        '--models cct_14_7x2_225|cct_14_7x2_224',
        '--repeats 0|repeats',
        '--budget-s -1|budget',
    ],
    'bench': ['--only picture|pictures', '--clips 0|clips', '--repeats 0|repeats'],
}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('commands')
    build(root / 'corpora', sentences=1)
    sf.write(root / 'c.wav', clip('sad'), 16000)
    return root


@pytest.mark.parametrize('verb, asked', [(v, a) for v, some in BAD.items() for a in some])
def test_it_says_what_is_wrong(place, monkeypatch, verb, asked, record_property):
    monkeypatch.chdir(place)
    args, named = asked.rsplit('|', 1)
    done = CliRunner().invoke(app, [verb, *args.split()])
    assert done.exit_code in (1, 2) and (
        done.exception is None or isinstance(done.exception, SystemExit)
    ), (done.exit_code, done.output[-500:], done.exception)
    assert 'Traceback' not in done.output and named.lower() in done.output.lower(), done.output[
        -800:
    ]
    assert done.exit_code == 2 or 'error: ' in done.output
    record_property('bad inputs', 1)


def test_no_command_is_left_out():
    assert set(BAD) == set(get_command(app).commands)
