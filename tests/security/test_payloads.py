"Files that carry code, given to whatever reads files: an error, and the code did not run."

import io
import pickle
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

import speaker_vgg_cct
from speaker_vgg_cct.core import SVCError, provenance
from speaker_vgg_cct.data.audio import load_audio
from speaker_vgg_cct.data.corpora import load_manifest
from speaker_vgg_cct.data.split import load_split
from speaker_vgg_cct.encoders.speaker import load_speaker_pca, load_vggvox
from speaker_vgg_cct.experiments.results import read_runs
from speaker_vgg_cct.experiments.study import read_systems
from speaker_vgg_cct.inference.recognizer import read_bundle
from speaker_vgg_cct.models.checkpoints import read_checkpoint
from speaker_vgg_cct.training.loop import load_config, load_run


class Payload:
    "Writes a file when it is unpickled."

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, 'w')


def as_pickle(marker):
    return pickle.dumps({'state_dict': Payload(marker)})


def as_torch(marker):
    out = io.BytesIO()
    torch.save({'state_dict': Payload(marker)}, out)
    return out.getvalue()


def as_npy(marker):
    out = io.BytesIO()
    np.save(out, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    return out.getvalue()


def as_npz(marker):
    out = io.BytesIO()
    np.savez(
        out,
        **{
            k: np.array([Payload(marker)], dtype=object)
            for k in ('mean', 'components', 'explained', 'scale', 'width', 'fit_on', 'clips')
        },
    )
    return out.getvalue()


def as_slip(marker):
    "A zip whose only entry climbs out of its folder."
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as z:
        z.writestr('../' * 8 + str(marker).lstrip('/'), 'here')
    return out.getvalue()


def as_yaml(marker):
    return f'!!python/object/apply:builtins.open ["{marker}", "w"]'.encode()


def as_keyed_yaml(marker):
    return f'epochs: !!python/object/apply:builtins.open ["{marker}", "w"]'.encode()


def as_h5(marker):
    out = io.BytesIO()
    with h5py.File(out, 'w') as f:
        f['layer/kernel:0'] = np.void(as_pickle(marker))
    return out.getvalue()


CODED = {
    f.__name__: f
    for f in (as_pickle, as_torch, as_npy, as_npz, as_slip, as_yaml, as_keyed_yaml, as_h5)
}


def in_folder(read, *names):
    "A reader of a folder: the file stands for each of its files."

    def of(file):
        folder = file.parent / f'{file.name}.d'
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(file.read_bytes())
        return read(folder)

    return of


READERS = {
    'audio': (load_audio, '.wav'),
    'checkpoint': (read_checkpoint, '.pth'),
    'checkpoint archive': (read_checkpoint, '.pth.tar'),
    'safetensors': (read_checkpoint, '.safetensors'),
    'bundle': (read_bundle, '.svc'),
    'VGGVox': (load_vggvox, '.h5'),
    'projection': (load_speaker_pca, '.npz'),
    'manifest': (load_manifest, '.csv'),
    'Parquet manifest': (load_manifest, '.parquet'),
    'preset': (load_config, '.yaml'),
    'study': (read_systems, '.yaml'),
    'results': (in_folder(read_runs, 'runs.csv'), ''),
    'split': (in_folder(load_split, 'split.json'), ''),
    'run': (
        in_folder(
            load_run, 'provenance.json', 'args.yaml', 'model_best.safetensors', 'speaker_pca.npz'
        ),
        '',
    ),
}


@pytest.mark.parametrize('coded', CODED)
@pytest.mark.parametrize('reader', READERS)
def test_code_in_a_file_does_not_run(tmp_path, reader, coded, record_property):
    record_property('files with code', 1)
    read, ending = READERS[reader]
    file, marker = tmp_path / f'x{ending}', tmp_path / 'ran'
    file.write_bytes(CODED[coded](marker))
    with pytest.raises(SVCError):
        read(file)
    assert not marker.exists()


def test_the_payloads_would_have_run(tmp_path):
    "What is refused above does run where it is let in, or this would test nothing."
    for name, read in (
        ('as_pickle', pickle.loads),
        ('as_torch', lambda b: torch.load(io.BytesIO(b), weights_only=False)),
        ('as_npy', lambda b: np.load(io.BytesIO(b), allow_pickle=True)),
        ('as_yaml', yaml.unsafe_load),
    ):
        read(CODED[name](tmp_path / name))
        assert (tmp_path / name).exists()


def test_no_line_of_ours_lets_code_in():
    bad = re.compile(
        r'\bpickle\b(?!=False)|torch\.load\((?!.*weights_only=True)|np\.load\((?!.*allow_pickle=False)|read_pickle|yaml\.(load|unsafe_load|full_load)\(|(?<![\w.])(eval|exec)\(|shell=True|os\.system|joblib\.load|marshal|extractall|trust_remote_code'
    )
    found = [
        f'{f.name}: {line}'
        for f in Path(speaker_vgg_cct.__file__).parent.rglob('*.py')
        for line in f.read_text().splitlines()
        if bad.search(line.split('  #')[0]) and not line.strip().startswith(('#', '"'))
    ]
    assert not found, found


def test_no_secret_goes_into_provenance(monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_verysecret')
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', 'wJalrverysecret')
    assert 'verysecret' not in str(provenance())
