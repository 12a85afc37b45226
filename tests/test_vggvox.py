"VGGVox: the network and its features against the reference's recorded numbers, and weights files whole, odd and damaged."

import json
import os
import zlib

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from speaker_vgg_cct.core import ConfigError
from speaker_vgg_cct.data.audio import load_audio
from speaker_vgg_cct.encoders.speaker import (
    BUCKETS,
    VGGVox,
    VGGVoxNet,
    bucket,
    encoder_id,
    get_encoder,
    keras_layout,
    load_vggvox,
    n_frames,
    save_vggvox,
    vggvox_features,
)

# the layers of the file, weightless ones too, in its order
FILE_LAYERS = [
    'input',
    'pad1',
    'conv1',
    'bn1',
    'relu1',
    'mpool1',
    'pad2',
    'conv2',
    'bn2',
    'relu2',
    'mpool2',
    'pad3',
    'conv3',
    'bn3',
    'relu3',
    'pad4',
    'conv4',
    'bn4',
    'relu4',
    'pad5',
    'conv5',
    'bn5',
    'relu5',
    'mpool5',
    'pad6',
    'fc6',
    'bn6',
    'relu6',
    'gapool6',
    'reshape6',
    'pad7',
    'fc7',
    'bn7',
    'relu7',
    'norm',
    'fc8',
]
CLIPS = {'12a02Ac': 'EMODB', 'tri-m1-n5': 'EMOVO', 'IC0_happiness_3': 'NEMO'}


def sine(name, n):
    return 0.05 * np.sin(0.7 * np.arange(n) + zlib.crc32(name.encode()) % 1000)


def hashed(name, n):
    "Numbers between -1 and 1 out of a 32-bit integer hash."
    x = (np.arange(n, dtype=np.uint64) + zlib.crc32(name.encode())) % 2**32
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    x ^= x >> 16
    return 2 * x / 2**32 - 1


def fill_a(name, shape):
    v = sine(name, np.prod(shape))
    return 1 + v if 'gamma' in name else 1 + abs(v) if 'variance' in name else v


def fill_b(name, shape):
    z = hashed(name, np.prod(shape))
    return (
        z * np.sqrt(6 / np.prod(shape[:-1]))
        if 'kernel' in name
        else 1 + 0.2 * z
        if 'gamma' in name
        else 1 + 0.5 * abs(z)
        if 'variance' in name
        else 0.1 * z
    )


INPUTS = {
    'fill_a': lambda n: np.sin(0.01 * np.arange(n)),
    'fill_b': lambda n: 2 * hashed('spectrogram', n),
}
FILLS = {'fill_a': fill_a, 'fill_b': fill_b}


def arrays(fill):
    return {
        name: fill(name, shape).astype(np.float32).reshape(shape)
        for name, shape in keras_layout(VGGVoxNet()).values()
    }


def filled(fill):
    net, named = VGGVoxNet().eval(), arrays(fill)
    ours = {k: named[name] for k, (name, _) in keras_layout(net).items()}
    net.load_state_dict(
        {
            k: torch.from_numpy(v.transpose(3, 2, 0, 1).copy() if v.ndim == 4 else v)
            for k, v in ours.items()
        }
    )
    return net


def write_keras(path, weights, text=str, nested=False, layers=FILE_LAYERS):
    "Writes arrays in the layout of Keras' legacy `save_weights`."
    with h5py.File(path, 'w') as f:
        root = f.create_group('model_weights') if nested else f
        root.attrs['layer_names'] = (
            np.array([n.encode() for n in layers]) if text is bytes else layers
        )
        root.attrs['backend'], root.attrs['keras_version'] = (
            ('tensorflow', '2.9.0') if text is str else (b'tensorflow', b'2.1.0')
        )
        for layer in layers:
            group, mine = (
                root.create_group(layer),
                [n for n in weights if n.startswith(layer + '/')],
            )
            group.attrs['weight_names'] = (
                np.zeros(0)
                if not mine
                else np.array([n.encode() for n in mine])
                if text is bytes
                else mine
            )
            for n in mine:
                group.create_dataset(n, data=weights[n])
        if text is str:
            root.create_group('top_level_model_weights').attrs['weight_names'] = np.zeros(0)


def embed(net, x):
    with torch.inference_mode():
        return net(torch.as_tensor(np.asarray(x, np.float32)))


@pytest.fixture(scope='module')
def golden(shared):
    return json.loads((shared / 'golden' / 'vggvox.json').read_text())


@pytest.fixture(scope='module')
def weights_b():
    return arrays(fill_b)


@pytest.fixture(scope='module')
def net_b():
    return filled(fill_b)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, weights_b, net_b):
    "The same weights as Keras writes them and as safetensors, deleted afterwards: they are 70 MB each."
    d = tmp_path_factory.mktemp('vggvox')
    write_keras(d / 'w.h5', weights_b)
    save_vggvox(net_b, d / 'w.safetensors')
    yield d
    for f in d.iterdir():
        f.unlink()


def same(recorded, got):
    got = got.numpy().ravel().astype(np.float64)
    np.testing.assert_allclose(got[:64], recorded['first64'], atol=1e-5, rtol=0)
    assert np.linalg.norm(got) == pytest.approx(
        recorded['l2'], abs=1e-5
    ) and got.mean() == pytest.approx(recorded['mean'], abs=1e-5)
    assert list(got.shape) == recorded['shape']


@pytest.mark.parametrize('width', (300, 500))
@pytest.mark.parametrize('fill', FILLS)
def test_parity_of_the_network(golden, fill, width):
    same(
        golden[fill][f'width{width}'],
        embed(
            filled(FILLS[fill]), INPUTS[fill](512 * width).astype(np.float32).reshape(1, 512, width)
        ),
    )


def test_parity_of_names_shapes_and_size(golden):
    assert {n: tuple(s) for n, s in golden['weights']} == dict(keras_layout(VGGVoxNet()).values())
    assert sum(np.prod(s) for _, s in golden['weights']) == 17_691_328


@pytest.mark.parametrize('clip', CLIPS)
def test_parity_of_features_and_their_embedding(shared, golden, net_b, clip):
    y, recorded = (
        load_audio(shared / 'corpora' / CLIPS[clip] / 'audio' / f'{clip}.flac'),
        golden['features'][clip],
    )
    x = vggvox_features(y)
    for kind in ('no_dither', 'dither_seed0'):  # their difference is far below the tolerance
        r = recorded[kind]
        assert list(x.shape) == r['shape'] and x.mean(dtype=np.float64) == pytest.approx(
            r['mean'], abs=1e-4
        )
        for row, values in r['rows'].items():
            np.testing.assert_allclose(x[int(row), :50], values, atol=1e-4, rtol=0)
    assert x.std(dtype=np.float64) == pytest.approx(recorded['no_dither']['std'], abs=1e-4)
    same(recorded['vggvox_fill_b_embedding_no_dither'], embed(net_b, x[None]))


def test_parity_of_buckets(golden, net_b):
    buckets = {int(k): v for k, v in golden['features']['buckets'].items()}
    assert tuple(buckets) == BUCKETS
    seen = []
    hook = net_b.fc6.register_forward_hook(lambda _, x, out: seen.append(out.shape[-1]))
    for width in (200, 600, 2000):
        embed(net_b, np.zeros((1, 512, width)))
    hook.remove()
    assert seen == [buckets[w] for w in (200, 600, 2000)]


def test_every_length_fills_its_bucket():
    for samples in (
        1,
        399,
        400,
        16399,
        16400,
        16401,
        32000,
        32240,
        32241,
        32319,
        159999,
        160000,
        160319,
        500_000,
    ):
        width = bucket(samples)
        assert n_frames(samples) >= width and (width == 2000 or n_frames(samples) < width + 200)
        x = vggvox_features(np.random.default_rng(0).normal(size=samples).astype(np.float32) * 0.1)
        assert x.shape == (512, width) and x.dtype == np.float32 and np.isfinite(x).all()


@pytest.mark.parametrize('kind', ('strings', 'bytes', 'nested', 'only layers with weights'))
def test_keras_file_gives_the_same_outputs(tmp_path, folder, weights_b, net_b, kind):
    file = folder / 'w.h5'
    if kind != 'strings':
        file = tmp_path / 'w.h5'
        layers = (
            [n for n in FILE_LAYERS if n[:2] in ('co', 'bn', 'fc')]
            if kind.startswith('only')
            else FILE_LAYERS
        )
        write_keras(file, weights_b, bytes if kind == 'bytes' else str, kind == 'nested', layers)
    net = load_vggvox(file)
    assert (
        all(v.dtype == torch.float32 and v.is_contiguous() for v in net.parameters())
        and not net.training
    )
    x = INPUTS['fill_b'](512 * 200).reshape(1, 512, 200)
    assert torch.equal(embed(net, x), embed(net_b, x))
    if file.parent != folder:
        file.unlink()


def test_safetensors_gives_the_same_encoder(folder):
    clips = [
        np.random.default_rng(i).normal(size=n).astype(np.float32) * 0.1
        for i, n in enumerate((9000, 20000, 40000, 20001, 170000, 33000))
    ]
    a, b = VGGVox(folder / 'w.h5'), get_encoder('vggvox', folder / 'w.safetensors')
    x = a.embed(clips)
    assert x.shape == (6, 1024) and x.dtype == np.float32
    np.testing.assert_array_equal(x, b.embed(clips))
    np.testing.assert_allclose(x, np.concatenate([a.embed([y]) for y in clips]), atol=1e-5)
    assert encoder_id('vggvox', folder / 'w.h5') != encoder_id(
        'vggvox', folder / 'w.safetensors'
    )  # files, not what they mean


def test_a_replaced_file_is_read_again(tmp_path, net_b):
    file = tmp_path / 'w.safetensors'
    save_vggvox(net_b, file)
    os.utime(file, (1, 1))  # else a quick machine on a coarse clock writes both at one time
    before, first = encoder_id('vggvox', file), get_encoder('vggvox', file)
    torch.manual_seed(0)
    save_vggvox(VGGVoxNet(), file)
    assert encoder_id('vggvox', file) != before and get_encoder('vggvox', file) is not first
    file.unlink()


def without(name):
    return lambda w: w.pop(name)


def instead(name, array):
    return lambda w: w.update({name: array})


@pytest.mark.parametrize(
    'change, said',
    (
        (without('bn3/moving_mean:0'), ['bn3/moving_mean:0: expected (384,), missing']),
        (
            instead('conv1/kernel:0', np.zeros((5, 5, 1, 96), np.float32)),
            ['conv1/kernel:0: expected (7, 7, 1, 96), found (5, 5, 1, 96)'],
        ),
        (
            instead('fc8/kernel:0', np.zeros((1, 1, 1024, 1251), np.float32)),
            ['fc8/kernel:0', '1251'],
        ),
        (instead('fc8/scale:0', np.zeros(3, np.float32)), ['fc8/scale:0: not in the network']),
        (instead('bn1/gamma:0', np.full(96, np.nan, np.float32)), ['not finite', 'bn1.weight']),
        (
            lambda w: [w.pop(n) for n in list(w) if n.startswith(('fc7', 'fc6'))],
            ['fc6/kernel:0', 'fc7/bias:0'],
        ),
    ),
)
def test_a_keras_file_of_something_else_is_refused(tmp_path, weights_b, change, said):
    weights, file = dict(weights_b), tmp_path / 'w.h5'
    change(weights)
    write_keras(file, weights)
    with pytest.raises(ConfigError) as e:
        load_vggvox(file)
    assert e.value.file == file and all(s in str(e.value) for s in said), e.value
    file.unlink()


def test_safetensors_of_something_else_is_refused(tmp_path, net_b):
    arrays, file = (
        {k: v.contiguous() for k, v in net_b.state_dict().items() if 'num_batches' not in k},
        tmp_path / 'w.safetensors',
    )
    for change, said in (
        (lambda w: w.pop('conv2.bias'), r'conv2.bias: expected \(256,\), missing'),
        (lambda w: w.update(head=torch.zeros(2)), 'head: not in the network'),
    ):
        weights = dict(arrays)
        change(weights)
        save_file(weights, file)
        with pytest.raises(ConfigError, match=said):
            load_vggvox(file)
    file.unlink()


@pytest.mark.parametrize('name', ('w.h5', 'w.safetensors'))
@pytest.mark.parametrize('part', (0, 100, 5000, 0.5, 0.999))
def test_a_truncated_file_is_refused(tmp_path, folder, name, part):
    whole, file = (folder / name).read_bytes(), tmp_path / name
    file.write_bytes(whole[: part if isinstance(part, int) else int(part * len(whole))])
    with pytest.raises(ConfigError, match='w.*can be read neither'):
        load_vggvox(file)
    file.unlink()


def test_what_is_no_weights_file_is_refused(tmp_path):
    (tmp_path / 'page.h5').write_text('<html>Not found</html>')
    (tmp_path / 'pointer.h5').write_text(
        'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 70000000\n'
    )
    with h5py.File(tmp_path / 'other.h5', 'w') as f:
        f['x'] = np.zeros(3)
    with h5py.File(tmp_path / 'group.h5', 'w') as f:
        f['model_weights'] = np.zeros(3)
    for name, said in (
        ('page.h5', "neither as Keras' HDF5"),
        ('pointer.h5', "neither as Keras' HDF5"),
        ('other.h5', 'layer_names'),
        ('group.h5', 'layer_names'),
        ('none.h5', 'no such file'),
        ('.', 'no such file'),
    ):
        with pytest.raises(ConfigError, match=said) as e:
            load_vggvox(tmp_path / name)
        assert 'vggvox_weights.h5' in str(e.value) and 'linhdvu14' in str(e.value)


def test_the_way_to_the_weights_is_told(tmp_path):
    for ask in (get_encoder, encoder_id):
        with pytest.raises(ConfigError) as e:
            ask('vggvox')
        for said in (
            'encoder/models/vggvox_weights.h5',
            'JabuMlDev/Speaker-VGG-CCT',
            'data/model/weights.h5',
            '--encoder vggvox --weights FILE',
        ):
            assert said in str(e.value)
        with pytest.raises(ConfigError, match='brings its own weights'):
            ask('resemblyzer', tmp_path / 'w.h5')
        with pytest.raises(ConfigError, match='no such file'):
            ask('vggvox', tmp_path / 'w.h5')
