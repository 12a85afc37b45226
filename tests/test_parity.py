"""The networks against logits, names and shapes that were recorded from the published program.

Its networks ran on weights and inputs filled by two rules (section 1 of the README beside the numbers): A is smooth, so the deep networks hardly see the picture;
B is a hash, under which every part matters. Weights are float32 in both precisions."""

import json
from zlib import crc32

import numpy as np
import pytest
import timm
import torch

import speaker_vgg_cct.models.speaker_cct  # noqa: F401  (registers its names)
from speaker_vgg_cct.models.cct import FAMILY

SPEAKER, END_TO_END = 'speaker_vgg_cct_14_7x2_224', 'speaker_vgg_cct_end_to_end_14_7x2_224'
SPEAKER_TOKEN = 'speaker_vgg_cct_end_to_end_speaker_token_14_7x2_224'
CRASHES = [
    f'{SPEAKER}#project_emotion_emb',
    f'{SPEAKER}#gender,project_emotion_emb',
]  # in the published program: nothing to compare with
ENTRIES = [
    *FAMILY,
    *(f'{name}#sine' for name in FAMILY if '_sine' in name and not name.startswith('vit')),
    SPEAKER,
    END_TO_END,
    SPEAKER_TOKEN,
    *(
        f'{SPEAKER}#{o}'
        for o in (
            'type=pooling',
            'type=concatenation',
            'pe=sine',
            'pe=none',
            'pe2=sine',
            'pe2=none',
            'gender',
            'corpus',
            'gender,corpus',
            'gender,corpus,type=pooling',
            'gender,corpus,type=concatenation',
        )
    ),
    *(f'{END_TO_END}#{o}' for o in ('pe=sine', 'pe=none', 'gender', 'corpus', 'gender,corpus')),
    f'{SPEAKER_TOKEN}#gender,corpus',
]
OPTIONS = {'type': 'fusion', 'pe': 'positional_embedding', 'pe2': 'second_positional_embedding'}
EMBEDDERS = {'gender': 2, 'corpus': 6}  # classes


def smooth(name, shape):
    "A weight by rule A."
    v = 0.05 * np.sin(0.7 * np.arange(np.prod(shape)) + crc32(name.encode()) % 1000)
    return (1 + v if 'norm' in name and name.endswith('.weight') else v).reshape(shape)


def noise(tag, shape):
    "A hash of the tag and of each element's index, evenly spread over -1 … 1."
    x = (np.arange(np.prod(shape), dtype=np.uint64) + crc32(tag.encode())).astype(
        np.uint32
    )  # modulo 2^32
    x ^= x >> 16
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> 13
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> 16
    return (2 * x.astype(np.float64) / 2**32 - 1).reshape(shape)


def hashed(name, shape):
    "A weight by rule B."
    z = noise(name, shape)
    if name.endswith(('positional_emb', 'positional_emb_scnd_blcks', 'class_emb')):
        return 0.5 * z
    if 'norm' in name and name.endswith('.weight'):
        return 1 + 0.2 * z
    return z * np.sqrt(3 / np.prod(shape[1:])) if len(shape) > 1 else 0.1 * z


def wave(f, step):
    return lambda shape: f(step * np.arange(np.prod(shape))).reshape(shape)


RULES = {
    'A': (
        'models.json',
        smooth,
        wave(np.sin, 0.01),
        wave(np.cos, 0.1),
    ),  # file; weights; picture; speaker vector
    'B': (
        'models_b.json',
        hashed,
        lambda s: 2 * noise('image', s),
        lambda s: 1.5 * noise('speaker', s),
    ),
}


@pytest.fixture(scope='module')
def golden(shared):
    return {
        rule: json.loads((shared / 'golden' / file).read_text())
        for rule, (file, *_) in RULES.items()
    }


def create(entry):
    "The network of an entry such as `cct_7_7x2_224_sine#sine` or `speaker_vgg_cct_14_7x2_224#gender,type=pooling`."
    name, _, options = entry.partition('#')
    kwargs = {'project_emotion_emb': True} if 'project' in options else {}
    for key, _, value in (o.partition('=') for o in options.split(',')):
        if key in EMBEDDERS:
            kwargs[f'{key}_embedder'] = timm.create_model(
                'cct_14_7x2_224', num_classes=EMBEDDERS[key]
            )
        elif value:
            kwargs[OPTIONS[key]] = value
    if '_sine' in name and not options and not name.startswith('vit'):
        kwargs['positional_embedding'] = (
            'learnable'  # what the published `_sine` names built in fact
        )
    return timm.create_model(name, num_classes=4, **kwargs).eval()


def float32(a):
    return torch.from_numpy(a.astype(np.float32))


def test_no_entry_is_left_out(golden):
    assert set(golden['A']) == {*ENTRIES, *CRASHES} and set(golden['B']) == set(ENTRIES)
    assert len(FAMILY) == 35 and all('error' in golden['A'][e] for e in CRASHES)


@pytest.mark.parametrize('entry', ENTRIES)
def test_names_and_shapes(golden, entry):
    want = golden['A'][entry]
    with torch.device('meta'):
        model = create(entry)  # shapes without numbers
    assert sorted((n, list(p.shape)) for n, p in model.state_dict().items()) == sorted(
        map(tuple, want['state_dict'])
    )
    assert sum(p.numel() for p in model.parameters()) == want['params']
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == want['trainable_params']


@pytest.mark.parametrize('entry', CRASHES)
def test_recorded_crashes_work(entry):
    model = create(entry)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 224, 224), torch.zeros(1, 384)).isfinite().all()


@pytest.mark.parametrize('entry', ENTRIES)
def test_logits(golden, entry):
    "The tolerances tell apart all the wrong variants that section 1.3 of that README lists."
    model = create(entry)
    for rule, (_, weight, picture, speaker) in RULES.items():
        want = golden[rule][entry]
        made = want['left_unfilled']  # sine tables stay as the model made them
        assert not any(p.requires_grad for n, p in model.named_parameters() if n in made)
        model.float().load_state_dict(
            {
                n: p if n in made else float32(weight(n, tuple(p.shape)))
                for n, p in model.state_dict().items()
            }
        )
        inputs = [float32(picture((2, 3, *model.img_size)))] + [
            float32(speaker((2, model.speaker_dim)))
        ] * model.takes_speaker
        with torch.no_grad():
            single, double = model(*inputs), model.double()(*(x.double() for x in inputs))
        np.testing.assert_allclose(
            single.numpy(), want['logits'], rtol=0, atol=2e-5, err_msg=f'rule {rule}, float32'
        )
        np.testing.assert_allclose(
            double.numpy(),
            want['logits_float64'],
            rtol=0,
            atol=1e-9,
            err_msg=f'rule {rule}, float64',
        )
