"A bundle from a stranger: whatever it holds, it is a model or an error, and nothing of it runs."

import copy
import hashlib
import json
import random
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from speaker_vgg_cct.core import StoreError, SVCError
from speaker_vgg_cct.data.audio import SAMPLE_RATE
from speaker_vgg_cct.data.synthetic import clip
from speaker_vgg_cct.inference.recognizer import (
    RUNTIMES,
    SHIPPED,
    Recognizer,
    read_bundle,
    write_bundle,
)

BYTES, CONTENTS, GRAPHS = 400, 100, 100  # files that are tried
MANY = 300  # contents, in the slow test


@pytest.fixture(scope='module')
def good():
    return read_bundle(SHIPPED)


def test_damaged_bytes_are_refused(tmp_path, record_property):
    "Cut anywhere, or with bytes changed anywhere, it is refused with the reason: nothing is read from it."
    record_property('bad inputs', BYTES)
    rng, whole, file = random.Random(0), SHIPPED.read_bytes(), tmp_path / 'x.svc'
    for i in range(BYTES):
        data = bytearray(whole)

        # half of the damage goes to the header, which is a thousandth of the file
        def where():
            return rng.randrange(len(data) if i % 2 else 20000)

        if i % 4 == 0:
            data = data[: where()]
        else:
            for _ in range(rng.choice((1, 2, 16))):
                data[where()] ^= 1 << rng.randrange(8)
        if data == whole:
            continue
        file.write_bytes(data)
        with pytest.raises(SVCError, match='x.svc'):
            read_bundle(file)


STRANGE = (
    None,
    True,
    -1,
    0,
    1e308,
    float('nan'),
    '',
    'x',
    [],
    {},
    [1],
    {'a': 1},
    '../../etc/passwd',
    10**9,
    [10**6, 10**6],
    ['a', 'a'],
    'https://example.org/x',
    '=1+1',
)


def paths(told, at=()):
    "Every entry of what is told, at any depth."
    for k, v in told.items() if isinstance(told, dict) else ():
        yield (*at, k)
        yield from paths(v, (*at, k))


def changed(told, path, value):
    told = copy.deepcopy(told)
    inner = told
    for k in path[:-1]:
        inner = inner[k]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return told


class Largest(TorchDispatchMode):
    "Notes the size of the largest tensor that is made, in bytes."

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves(made) if isinstance(t, torch.Tensor)]
        self.bytes = max([self.bytes, *(t.nbytes for t in tensors)])
        return made


@pytest.mark.parametrize('files', [CONTENTS, pytest.param(MANY, marks=pytest.mark.slow)])
def test_strange_contents_are_a_model_or_an_error(good, tmp_path, record_property, files):
    "Entries left out or replaced, arrays left out, of another shape or type, under a checksum that is right."
    (arrays, told), rng, y, refused = good, random.Random(0), clip('sad')[:SAMPLE_RATE], 0
    entries = [
        p
        for p in paths(told)
        if p[0]
        in (
            'name',
            'classes',
            'config',
            'picture',
            'encoders',
            'setting',
            'synthetic',
            'projection',
            'calibration',
            'format',
            'card',
        )
    ]
    record_property('bad inputs', files)
    tracemalloc.start()  # what Python and NumPy ask for, whatever the system then gives
    for i in range(files):
        some, text = dict(arrays), told
        if i % 3:
            text = changed(
                told,
                entries[i // 3 * 2 % len(entries)] if i % 3 == 1 else rng.choice(entries),
                rng.choice((..., *STRANGE)),
            )
        else:
            name = rng.choice(sorted(some))
            a = some.pop(name)
            if i % 2:
                some[name] = rng.choice(
                    (
                        a[:1],
                        a.astype(np.float64),
                        a.astype(np.int8),
                        np.full_like(a, np.nan),
                        a.T.copy(),
                        np.zeros((0, 3), np.float32),
                    )
                )
        file = write_bundle(tmp_path / 'x.svc', some, text)
        with Largest() as largest:
            try:
                Recognizer.load(file, runtime=RUNTIMES[i // 2 % 2])(y, SAMPLE_RATE).row()
            except SVCError as e:
                refused += 1
                assert len(str(e)) < 1500
        assert largest.bytes < 5e8, 'bytes of one tensor'
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert files / 4 < refused < files
    assert most < 1e9, 'bytes at once'


def test_what_a_bundle_may_not_ask_for(good, tmp_path):
    "No file of this machine and nothing from elsewhere is read because a bundle says so."
    arrays, told = good
    asks = told | {
        'config': told['config']
        | {'pretrained': True, 'initial_checkpoint': '/etc/passwd', 'weights': '/etc/passwd'}
    }
    assert (
        Recognizer.load(
            write_bundle(tmp_path / 'x.svc', arrays, asks), runtime='torch'
        ).network.config.initial_checkpoint
        is None
    )
    for config, why in (
        ({'img_size': [100000, 100000]}, 'img_size'),
        ({'model': 'hf_hub:someone/model'}, 'unknown model'),
        ({'surprise': 1}, 'surprise'),
    ):
        with pytest.raises(SVCError, match=why):
            Recognizer.load(
                write_bundle(
                    tmp_path / 'x.svc', arrays, told | {'config': told['config'] | config}
                ),
                runtime='torch',
            )
    for more, why in (
        ({'picture': told['picture'] | {'size': [100000, 100000]}}, 'pixels'),
        ({'picture': told['picture'] | {'layout': 'x'}}, 'layout'),
        ({'encoders': ['os.system']}, 'encoder'),
        ({'classes': ['a', 'b']}, 'class'),
        ({'classes': ['a'] * 4}, 'each once'),
        ({'projection': told['projection'] | {'width': 10**13}}, 'projection'),
        ({'picture': told['picture'] | {'seconds': 10**400}}, 'OverflowError'),
    ):
        for runtime in RUNTIMES:
            with pytest.raises(SVCError, match=why):
                Recognizer.load(
                    write_bundle(tmp_path / 'x.svc', arrays, told | more), runtime=runtime
                )
    with pytest.raises(StoreError, match='lacks calibration'):
        Recognizer.load(
            write_bundle(
                tmp_path / 'x.svc', arrays, {k: v for k, v in told.items() if k != 'calibration'}
            )
        )
    with pytest.raises(SVCError, match='upgrade'):
        Recognizer.load(write_bundle(tmp_path / 'x.svc', arrays, told | {'format': 10**9}))


def test_a_strange_graph_computes_or_is_refused(good, tmp_path, record_property):
    "Bytes of the graph changed, under a checksum that is right: onnxruntime runs it or says that it cannot."
    record_property('bad inputs', GRAPHS)
    (arrays, told), rng, refused = good, random.Random(0), 0
    for _ in range(GRAPHS):
        graph = arrays['graph/network'].copy()
        for _ in range(rng.choice((1, 2, 16))):
            graph[rng.randrange(60000)] ^= 1 << rng.randrange(
                8
            )  # where the operations are; behind are weights
        file = write_bundle(tmp_path / 'x.svc', arrays | {'graph/network': graph}, told)
        try:
            Recognizer.load(file, runtime='onnx')
        except SVCError as e:
            refused += 1
            assert 'x.svc' in str(e)
    assert GRAPHS / 20 < refused < GRAPHS


def raw(header, data=b''):
    "A safetensors file with any header."
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + data


def told(entry):
    return {'__metadata__': {'speaker_vgg_cct': entry}}


def test_another_kind_of_file_is_no_bundle(tmp_path):
    file, right = tmp_path / 'x.svc', hashlib.sha256(b'no json').hexdigest()
    strange = [
        raw(told(json.dumps({'sha256': 'x', 'told': 1}))),
        raw(told(json.dumps({'sha256': right, 'told': 'no json'}))),
        raw(told('[' * 100000)),
        raw(told('{}')),
        raw(told('1')),
        raw(told('{}') | {'x': {'dtype': 'BF16', 'shape': [1], 'data_offsets': [0, 2]}}, b'00'),
        raw({'x': {'dtype': 'BF16', 'shape': [1], 'data_offsets': [0, 2]}}, b'00'),
    ]
    for data in strange:
        file.write_bytes(data)
        with pytest.raises(SVCError, match='x.svc'):
            read_bundle(file)
    for data in (
        b'',
        b'\x80\x04\x95',
        b'PK\x03\x04',
        json.dumps({'a': 1}).encode(),
        (2**62).to_bytes(8, 'little') + b'{}',
        (8).to_bytes(8, 'little') + b'{"a":1}}',
    ):
        file.write_bytes(data)
        with pytest.raises(SVCError, match='x.svc'):
            read_bundle(file)
