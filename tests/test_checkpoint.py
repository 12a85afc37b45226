"""Checkpoints in the published program's format, and fetching from a server that misbehaves in the ways servers do."""

import argparse
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from safetensors.torch import save_file

import speaker_vgg_cct.models.speaker_cct  # noqa: F401  (registers its names)
from speaker_vgg_cct.core import ConfigError
from speaker_vgg_cct.models.checkpoints import fetch, hash_file, read_checkpoint

NAMES = [
    'speaker_vgg_cct_14_7x2_224',
    'speaker_vgg_cct_end_to_end_14_7x2_224',
    'speaker_vgg_cct_end_to_end_speaker_token_14_7x2_224',
]


def training_state(model, **more):
    "What the published program's trainer writes (its README lists the keys): weights among options, optimizer and score."
    return dict(
        epoch=7,
        arch='speaker_vgg_cct',
        state_dict=model.state_dict(),
        optimizer={'state': {}, 'param_groups': [{'lr': 5e-5, 'betas': (0.9, 0.999)}]},
        version=2,
        args=argparse.Namespace(lr=5e-5, input_size=[3, 224, 224], model='cct', scale=[0.08, 1.0]),
        metric=61.5,
        **more,
    )


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    "A stand-in for the published ImageNet weights: the same names and shapes, 163 entries."
    torch.manual_seed(0)
    model = timm.create_model('cct_14_7x2_224')
    file = tmp_path_factory.mktemp('weights') / 'cct_14_7x2_224_imagenet.pth'
    torch.save(model.state_dict(), file)
    return model, file


@pytest.mark.parametrize('name', NAMES)
def test_imagenet_weights_into_the_speaker_models(imagenet, name):
    plain, file = imagenet
    assert len(plain.state_dict()) == 163
    model = timm.create_model(name, checkpoint=file)
    what = model.loaded.set_index('entry').what
    counts = what.value_counts().to_dict()
    own, given = model.state_dict(), plain.state_dict()
    taken = what[what.isin(['loaded', 'renamed', 'resized'])]
    if name == NAMES[0]:
        assert counts == {'loaded': 157, 'renamed': 4, 'new': len(own) - 161}
        assert torch.equal(own['classifier.norm_cct.weight'], given['classifier.norm.weight'])
        assert torch.equal(own['classifier.positional_emb'], given['classifier.positional_emb'])
    else:
        assert (
            own['classifier.positional_emb'].shape == (1, 197, 384)
            and what['classifier.positional_emb'] == 'resized'
        )
        assert torch.equal(
            own['classifier.positional_emb'][:, 1:], given['classifier.positional_emb']
        )  # of every patch
    if name == NAMES[1]:
        assert counts == {'loaded': 158, 'renamed': 2, 'resized': 1, 'new': 2}
    if name == NAMES[2]:
        assert counts == {'loaded': 158, 'resized': 1, 'new': 2, 'left': 2}
    assert {'classifier.fc.weight', 'classifier.fc.bias'} <= set(what[what == 'new'].index)
    for entry in taken[taken == 'loaded'].index:
        assert torch.equal(own[entry], given[entry])


def test_other_picture_sizes(imagenet):
    _, file = imagenet
    model = timm.create_model(NAMES[1], checkpoint=file, img_size=288)
    assert model.state_dict()['classifier.positional_emb'].shape == (1, 325, 384)
    assert model.loaded.set_index('entry').what['classifier.positional_emb'] == 'resized'


@pytest.mark.parametrize(
    'name',
    [
        'speaker_vgg_cct_2_7x2_112',
        'speaker_vgg_cct_end_to_end_2_7x2_112',
        'cvt_2_4_32',
        'vit_2_4_32_sine',
    ],
)
@pytest.mark.parametrize('kind', ['pth', 'pth.tar', 'safetensors'])
def test_own_checkpoints_come_back(tmp_path, name, kind):
    model = timm.create_model(name, num_classes=4).eval()
    file = tmp_path / f'model_best.{kind}'
    if kind == 'safetensors':
        save_file(model.state_dict(), file)
    else:
        torch.save(training_state(model) if kind == 'pth.tar' else model.state_dict(), file)
    again = timm.create_model(name, num_classes=4, checkpoint=file).eval()
    assert set(again.loaded.what) <= {'loaded', 'kept'} and (
        again.loaded.what == 'kept'
    ).sum() == name.endswith('_sine')
    inputs = [torch.randn(2, 3, *model.img_size)] + [
        torch.randn(2, model.speaker_dim)
    ] * model.takes_speaker
    with torch.no_grad():
        assert torch.equal(model(*inputs), again(*inputs))


def test_running_average_is_taken(tmp_path):
    model, ema = timm.create_model('cct_2_7x2_112'), timm.create_model('cct_2_7x2_112')
    torch.save(training_state(model, state_dict_ema=ema.state_dict()), tmp_path / 'a.pth.tar')
    started = timm.create_model('cct_2_7x2_112', checkpoint=tmp_path / 'a.pth.tar')
    assert all(torch.equal(p, q) for p, q in zip(started.parameters(), ema.parameters()))


class Server(BaseHTTPRequestHandler):
    "Serves `body`; knows ranges unless told otherwise, and can hang up early."

    def do_GET(self):
        s, start = self.server, 0
        if s.ranges and self.headers.get('Range') and self.headers.get('If-Range') == s.tag:
            start = int(self.headers['Range'][6:-1])
        s.asked.append(start)
        self.send_response(206 if start else 200)
        for k, v in {'Content-Length': len(s.body) - start, 'ETag': s.tag}.items():
            self.send_header(k, str(v))
        self.end_headers()
        self.wfile.write(s.body[start : s.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    torch.save(timm.create_model('cct_2_7x2_112').state_dict(), tmp_path / 'whole.pth')
    with ThreadingHTTPServer(('127.0.0.1', 0), Server) as s:
        s.body, s.tag, s.ranges, s.cut, s.asked = (
            (tmp_path / 'whole.pth').read_bytes(),
            '"one"',
            True,
            None,
            [],
        )
        s.url = f'http://127.0.0.1:{s.server_port}/cct_2.pth'
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield s
        s.shutdown()


def test_fetched_once_and_checked(server, tmp_path):
    path = fetch(server.url, tmp_path / 'c')
    assert path.read_bytes() == server.body and (
        tmp_path / 'c' / 'cct_2.pth.sha256'
    ).read_text().strip() == hash_file(path)
    assert fetch(server.url, tmp_path / 'c') == path and len(server.asked) == 1
    assert fetch(server.url, tmp_path / 'd', sha256=hash_file(path)).exists()
    with pytest.raises(ConfigError, match='another hash than 00ff'):
        fetch(server.url, tmp_path / 'e', sha256='00ff')
    assert not (tmp_path / 'e' / 'cct_2.pth').exists()


@pytest.mark.parametrize(
    'ranges, tag, start', [(True, '"one"', 100_000), (False, '"one"', 0), (True, '"two"', 0)]
)
def test_goes_on_after_an_interruption(server, tmp_path, ranges, tag, start):
    "Only if the server can, and still has the same file."
    server.cut = 100_000
    with pytest.raises(ConfigError, match='goes on from there'):
        fetch(server.url, tmp_path / 'c')
    assert not (tmp_path / 'c' / 'cct_2.pth').exists()  # never a part under the name of the whole
    server.cut, server.ranges, server.tag = None, ranges, tag
    assert fetch(server.url, tmp_path / 'c').read_bytes() == server.body
    assert server.asked == [0, start]
    assert sorted(f.name for f in (tmp_path / 'c').iterdir() if f.suffix != '.lock') == [
        'cct_2.pth',
        'cct_2.pth.sha256',
    ]


def test_a_page_is_not_taken_for_weights(server, tmp_path):
    server.body = b'<html>This page has moved</html>'
    with pytest.raises(ConfigError, match='not the checkpoint') as e:
        fetch(server.url, tmp_path / 'c')
    assert server.url in str(e.value) and str(tmp_path / 'c' / 'cct_2.pth') in str(e.value)
    assert not any(f.suffix == '.pth' for f in (tmp_path / 'c').iterdir())


def test_pretrained_of_a_name(server, tmp_path, monkeypatch):
    "The address of the name's configuration below the folder that the environment names, or another one by timm's overlay."
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    model = timm.create_model(
        'cct_2_7x2_112', pretrained=True, pretrained_cfg_overlay=dict(url=server.url)
    )
    assert (
        set(model.loaded.what) == {'loaded'}
        and (tmp_path / 'hub' / 'checkpoints' / 'cct_2.pth').exists()
    )
    monkeypatch.setenv('SVC_CHECKPOINTS', server.url.rsplit('/', 1)[0])
    with pytest.raises(ConfigError, match='does not fit'):
        timm.create_model('cct_7_3x1_32', pretrained=True)  # this server has but one file
    assert (tmp_path / 'hub' / 'checkpoints' / 'cct_7_3x1_32_cifar10_300epochs.pth').exists()
    with socket.socket() as held:  # a port on which nobody listens, and nobody else can
        held.bind(('127.0.0.1', 0))
        monkeypatch.setenv('SVC_CHECKPOINTS', f'http://127.0.0.1:{held.getsockname()[1]}')
        said = 'cannot be fetched.*cct_14_7x2_224_imagenet.pth.*Put the file there by hand'
        with pytest.raises(ConfigError, match=said):
            timm.create_model(NAMES[1], pretrained=True)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",)

    torch.save(
        dict(training_state(timm.create_model('cct_2_7x2_112')), extra=Payload()),
        tmp_path / 'a.pth.tar',
    )
    with pytest.raises(ConfigError, match='without running code'):
        read_checkpoint(tmp_path / 'a.pth.tar')
    assert not (tmp_path / 'owned').exists()
