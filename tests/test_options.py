"The vocabulary of the reference: its YAML files and its command line are understood, each option acts, and what is wrong is said."

import argparse
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from papermill.translators import PythonTranslator
from PIL import Image
from safetensors.torch import load_file
from timm import create_model
from timm.optim import create_optimizer_v2
from typer.main import get_command
from typer.testing import CliRunner

import speaker_vgg_cct.training.loop as t
from speaker_vgg_cct.cli.app import VERBS, dashes
from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.config import Config
from speaker_vgg_cct.core import ConfigError, digest
from speaker_vgg_cct.data.corpora import read_corpora
from speaker_vgg_cct.data.split import make_split
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.features.spectrogram import picture_params
from speaker_vgg_cct.training.dataset import Altered, prepare, seeded
from speaker_vgg_cct.training.loop import (
    image_transform,
    load_config,
    load_run,
    make_model,
    make_schedule,
    model_input,
    predict_logits,
    train,
    train_epoch,
)

MODEL = 'speaker_vgg_cct_end_to_end_2_7x2_112'
CPU = torch.device('cpu')

# every key that the reference's training files use, in a file as they write it
THEIRS = f'''
dataset: torch/imagenet
num_classes: 1000
img_size: 112
mean: [0.485, 0.456, 0.406]
std: [0.229, 0.224, 0.225]
crop_pct: 0.9
scale: [0.08, 1.0]
interpolation: bicubic
train_interpolation: bicubic
aa: rand-m9-mstd0.5-inc1
mixup: 0.8
mixup_off_epoch: 0
mixup_prob: 01.0
mixup_mode: batch
mixup_switch_prob: 0.5
cutmix: 01.0
reprob: 0.25
remode: pixel
amp: True
model: {MODEL}
pretrained: False
model_ema: False
batch_size: 16
lr: 5e-4
min_lr: 1e-5
sched: cosine
weight_decay: 0.05
epochs: 1
cooldown_epochs: 0
warmup_epochs: 0
warmup_lr: 1e-6
opt: adamw
smoothing: 0.01
workers: 0
train_split: train
val_split: validation
'''


def run(*args):
    r = CliRunner().invoke(app, [str(a) for a in args])
    assert r.exception is None or isinstance(r.exception, SystemExit), r.exception
    return r


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('options')
    manifest, _ = read_corpora(build(root / 'corpora', sentences=1))
    split = make_split(manifest, 'SYNTH_C')
    config = load_config('quick', batch_size=16)
    parts, pca = prepare(
        split, manifest, picture_params(config, (112, 112)), root / 'features', 128, jobs=1
    )
    return root, split, config, parts, pca


@pytest.fixture(scope='module')
def on_disk(place):
    root = place[0]
    assert (
        run(
            'split',
            '--datasets-dir',
            root / 'corpora',
            '--eval-dataset',
            'SYNTH_C',
            '--data-dir',
            root / 'data',
            '--out',
            root / 'out',
            '--jobs',
            1,
        ).exit_code
        == 0
    )
    return root / 'data' / 'SYNTH_C' / '4_classes' / 'no_aug' / 'undersampling'


@pytest.fixture
def theirs(tmp_path):
    (tmp_path / 'theirs.yml').write_text(THEIRS)
    return tmp_path / 'theirs.yml'


def one_epoch(place, **options):
    "The mean loss of an epoch from the same first weights, and the weights afterwards."
    _, _, config, parts, _ = place
    config = load_config('quick', **dict(batch_size=16, warmup_epochs=0) | options)
    model = make_model(config, 4)
    extra = {k: v for k, v in (('eps', config.opt_eps), ('betas', config.opt_betas)) if v}
    optimizer = create_optimizer_v2(
        model, config.opt, config.lr, config.weight_decay, config.momentum, **extra
    )
    loss = train_epoch(model, parts['train'], config, optimizer, 0, CPU)
    return loss, torch.cat([p.detach().flatten() for p in model.parameters()])


# files


def test_every_key_of_their_files_is_read(theirs, capsys):
    c, said = load_config(theirs), yaml.safe_load(THEIRS)
    assert (
        capsys.readouterr().out.strip()
        == 'theirs.yml: dataset, num_classes, train_split, val_split left aside, the split says them'
    )
    assert (
        (c.lr, c.min_lr, c.warmup_lr, c.mixup_prob, c.cutmix) == (5e-4, 1e-5, 1e-6, 1.0, 1.0)
        and c.scale == (0.08, 1.0)
        and c.mean == tuple(said['mean'])
    )
    assert isinstance(said['lr'], str) and isinstance(c.lr, float)  # the trap
    assert {f.name for f in fields(Config)} >= said.keys() - {
        'dataset',
        'num_classes',
        'train_split',
        'val_split',
    }
    assert c.alters and c.mixes and not load_config(theirs, no_aug=True).alters


def test_a_file_of_theirs_trains(place, on_disk, theirs, tmp_path):
    r = run(
        'train',
        on_disk,
        '-c',
        theirs,
        '--root-output-dir',
        tmp_path,
        '--features',
        place[0] / 'features',
        '--device',
        'cpu',
        '--jobs',
        1,
    )
    assert r.exit_code == 0, r.output
    out = next(tmp_path.rglob('args.yaml')).parent
    assert out.relative_to(tmp_path).parts[:5] == (
        f'{MODEL}-scratch',
        'SYNTH_C',
        '4_classes',
        'no_aug',
        'undersampling',
    )
    assert (
        load_run(out)[1] == load_config(theirs)
        and (out / 'graphs' / 'training_losses.png').exists()
    )


def test_unknown_keys_are_all_named_with_the_nearest_known(tmp_path):
    f = tmp_path / 'x.yml'
    f.write_text('warmup_epoch: 3\nlerning_rate: 1\nmixup_of_epoch: 2\n')
    with pytest.raises(ConfigError) as e:
        load_config(f)
    for said in (
        'x.yml: unknown options',
        'warmup_epoch, lerning_rate, mixup_of_epoch',
        "'warmup_epochs' for 'warmup_epoch'",
        "'mixup_off_epoch' for 'mixup_of_epoch'",
    ):
        assert said in str(e.value)


@pytest.mark.parametrize(
    'text, problem',
    [
        ('lr: fast', 'lr must be of type float'),
        ('epochs: 2.5', 'epochs must be of type int'),
        ('epochs: true', 'epochs must be of type int'),
        ('amp: 3', 'amp must be of type bool'),
        ('lr: .nan', 'lr must be of type float'),
        ('scale: 0.5', 'scale must be of type [float, float]'),
        ('mean: [0.5, 0.5]', 'mean must be of type [float, float, float]'),
        ('img_size: [1, 2, 3]', 'img_size must be of type int or [int, int]'),
        ('input_size: [3, 224]', 'input_size must be of type [int, int, int]'),
        ('opt_betas: [0.9, x]', 'opt_betas must'),
        ('crop_pct: 1.5', 'crop_pct must be at least 0.1 and at most 1'),
        ('hflip: 2', 'hflip must be'),
        ('scale: [0.5, 2]', 'scale must be'),
        ('scale: [1, 0.5]', 'The smaller number first'),
        ('std: [0, 1, 1]', 'std must be'),
        ('batch_size: 1', 'batch_size must be at least 2'),
        ('lr: -1', 'lr must be at least 0'),
        ('img_size: 0', 'img_size must be'),
        ('sched: cosin', "Did you mean 'cosine'?"),
        ('opt: adamv', 'unknown opt'),
        ('interpolation: cubic', "Did you mean 'bicubic'?"),
        ('mixup_mode: element', 'unknown mixup_mode'),
        ('model: cct_7_3x1', 'unknown model'),
        ('encoder: vgvox', "Did you mean 'vggvox'?"),
        ('layout: mell', "Did you mean 'mel'?"),
        ('aa: rnd-m9', 'not an augmentation that timm knows'),
        ('jsd: true', 'aug_splits'),
        ('aug_splits: 1', 'aug_splits'),
        ('{aug_splits: 3, mixup: 0.5}', 'cannot be had with mixing'),
        ('in_chans: 2', 'unknown in_chans'),
        ('{mixup: 0.5, batch_size: 15}', 'batch_size must be even'),
        ('fusion: pooling', 'no second level'),
        ('{input_size: [3, 64, 64], img_size: 96}', 'img_size is said twice'),
        ('epochs:', 'epochs needs a value'),
        ('- a', 'must hold a table'),
        ('a: [', 'not readable YAML'),
        ('!!python/object/apply:os.getcwd []', 'not readable YAML'),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, text, problem):
    f = tmp_path / 'x.yml'
    f.write_text(text)
    with pytest.raises(ConfigError) as e:
        load_config(f)
    assert 'x.yml' in str(e.value) and problem in str(e.value)


def test_an_override_is_not_blamed_on_the_file(theirs):
    with pytest.raises(ConfigError) as e:
        load_config(theirs, crop_pct=2)
    assert 'theirs.yml' not in str(e.value)


def test_identity_is_what_differs_from_the_defaults(tmp_path):
    assert Config().hash == digest({}) and Config(lr=1e-2).hash == digest({'lr': 1e-2})
    (
        (tmp_path / 'a').write_bytes(b'1'),
        (tmp_path / 'b').write_bytes(b'1'),
        (tmp_path / 'c').write_bytes(b'2'),
    )
    a, b, c = (Config(weights=str(tmp_path / n)).hash for n in 'abc')
    assert a == b != c  # a file counts by its content


# the command line

README = [
    '--pretrained',
    '--num-classes',
    '4',
    '--input-size',
    '3',
    '112',
    '112',
    '--batch-size',
    '32',
    '--workers',
    '8',
    '--checkpoint-hist',
    '1',
    '--save-graphs',
    '--epochs',
    '50',
    '--no-aug',
    '--mixup',
    '0',
    '--cutmix',
    '0',
    '--lr',
    '0.00005',
]


def test_the_readmes_command_is_accepted(place, on_disk, theirs, tmp_path, monkeypatch):
    "As the README has it; what would be computed is caught."
    caught = []
    monkeypatch.setattr(
        t,
        'train',
        lambda parts, pca, split, config, folder, device, **_: (
            caught.append((config, folder)) or (_ for _ in ()).throw(ConfigError('caught'))
        ),
    )
    r = run(
        'train',
        on_disk / 'train_data',
        '--model',
        MODEL,
        '-c',
        theirs,
        *README,
        '--dataset',
        '',
        '--root-output-dir',
        tmp_path,
        '--features',
        place[0] / 'features',
        '--jobs',
        1,
    )
    assert 'caught' in r.output, r.output
    c, folder = caught[0]
    assert c == load_config(
        theirs,
        model=MODEL,
        pretrained=True,
        batch_size=32,
        workers=8,
        epochs=50,
        no_aug=True,
        mixup=0,
        cutmix=0,
        lr=5e-5,
    ) and (c.img_size, c.alters, c.mixes) == (112, False, False)
    assert folder.relative_to(tmp_path).parts[:5] == (
        f'{MODEL}-pretrained',
        'SYNTH_C',
        '4_classes',
        'no_aug',
        'undersampling',
    )


def test_what_the_command_line_says_of_the_split_has_to_be_so(on_disk):
    r = run('train', on_disk, '--num-classes', 7)
    assert (
        r.exit_code == 1
        and 'got 7' in r.output
        and 'which has 4: anger, happy, neutral, sad' in r.output
    )
    r = run('train', on_disk, '-d', 'SYNTHA')
    assert r.exit_code == 1 and "Did you mean 'SYNTH_A'?" in r.output


def test_each_option_of_a_run_is_one_of_the_command_line():
    verbs = get_command(app).commands
    for verb in ('train', 'experiment', 'report'):
        given = {p.name: p for p in verbs[verb].params}
        for f in fields(Config):
            if f.name == 'seed' and verb == 'report':
                continue  # has --seeds
            assert (
                f.name in given
                and f'--{f.name.replace("_", "-")}'
                in given[f.name].opts + given[f.name].secondary_opts
            ), (verb, f.name)
            assert given[f.name].help, f.name


def understood(verb):
    "Every spelling of an option that a verb takes."
    command = get_command(app).commands[verb]
    own = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return own | {o for others in command.other_names().values() for o in others}


def test_other_spellings_are_understood():
    assert {
        '-b',
        '-j',
        '-d',
        '-c',
        '--dr',
        '--pretrained-model',
        '--input-size',
        '--num-workers',
        '--config',
        '--preset',
    } <= understood('train')
    assert {
        '--output-dir',
        '--num-workers',
        '--data-test-path',
        '--crop-pct',
        '--interpolation',
        '--img-size',
        '--num-classes',
        '-d',
        '-b',
    } <= understood('eval')
    assert '--model-path' in understood('embeddings')


ONE_NAME = [  # verb, the project's options, the reference's spelling of the same
    (
        'split',
        '--corpora absent --test-corpus X --task 3 --balance no_balanced --validation 0.5 --train-corpora A,B',
        '--datasets_dir absent --eval_dataset X --num_classes 3 --balanced no_balanced --percent_subject_validation 0.5 --train_datasets A,B',
    ),
    (
        'spectrograms',
        '--corpora absent --augmentation mask',
        '--datasets-dir absent --augmentations mask',
    ),
    (
        'embeddings',
        '--corpora absent --weights x --save-2d-embed-compare',
        '--datasets_dir absent --model_path x --save_2D_embed_compare',
    ),
    ('train', 'absent --preset quick --workers 1 --batch-size 4', 'absent -c quick -j 1 -b 4'),
    (
        'train',
        'absent --preset quick --initial-checkpoint a --decay-rate 0.1',
        'absent --config quick --pretrained_model a --dr 0.1',
    ),
    ('eval', 'absent --split x --workers 1', 'absent --data_test_path x --num_workers 1'),
    (
        'pretrain',
        '--corpora absent --leave-out none --preset quick',
        '--datasets-dir absent --leave-out none -c quick',
    ),
]


@pytest.mark.parametrize('verb, ours, theirs', ONE_NAME)
def test_both_spellings_say_the_same(verb, ours, theirs):
    command = get_command(app).commands[verb]
    said = [
        command.make_context(verb, line.split(), token_normalize_func=dashes).params
        for line in (ours, theirs)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize('verb', sorted(get_command(app).commands))
def test_help_loses_no_word(verb):
    "Rendered as Markdown, `<EVAL>` was HTML and vanished; each word of each help text is on the screen."
    command = get_command(app).commands[verb]
    texts = [
        command.help,
        *(
            p.help
            for p in command.params
            if p.help and (not getattr(p, 'hidden', False) or p.rich_help_panel)
        ),
    ]
    full = '--help-all' if any('--help-all' in p.opts for p in command.params) else '--help'
    screen = (
        CliRunner()
        .invoke(app, [verb, full], env={'COLUMNS': '600', 'TERMINAL_WIDTH': '600'})
        .output
    )
    words = {w for line in screen.splitlines() for w in line.split()}
    for text in texts:
        plain = re.sub(r'\\([<*\[_])', r'\1', text).replace('`', '')
        assert not (lost := [w for w in plain.split() if w not in words]), lost


def test_the_first_level_of_help_fits_a_screen():
    lines = (
        CliRunner()
        .invoke(app, ['--help'], env={'COLUMNS': '80', 'TERMINAL_WIDTH': '80'})
        .output.splitlines()
    )
    assert len(lines) <= 40 and [
        p for p in ('Data', 'Train', 'Use', 'Measure') if any(f'─ {p} ─' in line for line in lines)
    ] == ['Data', 'Train', 'Use', 'Measure']
    assert set(get_command(app).commands) == {
        v for verbs in VERBS.values() for v in verbs
    }  # each has its panel


@pytest.mark.parametrize('verb', sorted(get_command(app).commands))
def test_a_verb_shows_little_unless_asked(verb):
    lines = (
        CliRunner()
        .invoke(app, [verb, '--help'], env={'COLUMNS': '80', 'TERMINAL_WIDTH': '80'})
        .output.splitlines()
    )
    assert len(lines) <= 60 and not any('--lr-cycle-limit' in line for line in lines)


def test_pairs_and_triples_on_the_command_line(place, on_disk, theirs, tmp_path, monkeypatch):
    caught = []
    monkeypatch.setattr(
        t,
        'load_config',
        lambda preset, **options: (
            caught.append(options) or (_ for _ in ()).throw(ConfigError('caught'))
        ),
    )
    run(
        'train',
        on_disk,
        *[
            '--scale',
            '0.5',
            '1',
            '--ratio',
            '0.75',
            '1.333',
            '--mean',
            '0.5',
            '0.5',
            '0.5',
            '--opt-betas',
            '0.9',
            '0.95',
            '--lr-noise',
            '0.4',
            '0.9',
            '--cutmix-minmax',
            '0.2',
            '0.8',
            '--img-size',
            '96',
            '--aa',
            'v0',
            '--no-save-graphs',
            '--aug',
            '-b',
            '8',
            '-j',
            '2',
        ],
    )
    assert caught[0] == dict(
        scale=[0.5, 1.0],
        ratio=[0.75, 1.333],
        mean=[0.5] * 3,
        opt_betas=[0.9, 0.95],
        lr_noise=[0.4, 0.9],
        cutmix_minmax=[0.2, 0.8],
        img_size=96,
        aa='v0',
        save_graphs=False,
        no_aug=False,
        batch_size=8,
        workers=2,
    )
    back = {}  # what `experiment` does with them
    exec(f'options = {PythonTranslator.translate(caught[0])}', back)
    assert load_config('quick', **back['options']) == load_config('quick', **caught[0])


# each option acts


def test_validation_sees_the_cropped_picture_and_training_the_whole(place):
    _, _, config, parts, _ = place
    model, batch = make_model(config, 4), parts['train'][[0, 1]]
    cropped = replace(config, crop_pct=0.8)
    whole = model_input(batch, model, config, CPU)[0][0]
    assert torch.equal(model_input(batch, model, cropped, CPU, training=True)[0][0], whole)
    assert (model_input(batch, model, cropped, CPU)[0][0] - whole).abs().max() > 0.1
    assert not np.array_equal(
        predict_logits(model, parts['validation'], cropped),
        predict_logits(model, parts['validation'], config),
    )
    for other in (dict(mean=(0.5,) * 3), dict(std=(0.5,) * 3)):
        assert not torch.equal(
            model_input(batch, model, replace(config, **other), CPU)[0][0], whole
        )
    small = make_model(replace(config, img_size=64), 4)
    pictures = [
        model_input(batch, small, replace(config, interpolation=i), CPU)[0][0]
        for i in ('bicubic', 'bilinear', 'nearest')
    ]
    assert (
        small.img_size == (64, 64)
        and not torch.equal(pictures[0], pictures[1])
        and not torch.equal(pictures[1], pictures[2])
    )


@pytest.mark.parametrize(
    'options',
    [
        dict(hflip=1.0),
        dict(vflip=1.0),
        dict(scale=(0.3, 0.6)),
        dict(color_jitter=0.4),
        dict(aa='rand-m9-mstd0.5-inc1'),
        dict(aa='v0'),
    ],
)
def test_pictures_are_altered_in_training_only(place, options):
    _, _, config, parts, _ = place
    altered = replace(config, **options)
    model, data = (
        make_model(config, 4),
        Altered(parts['train'], image_transform(altered, (112, 112)), config.cmap, seed=(0, 0)),
    )
    a, b = data[list(range(8))], parts['train'][list(range(8))]
    assert torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])  # voices and labels stay
    seen, plain = (model_input(x, model, config, CPU, training=True)[0][0] for x in (a, b))
    assert seen.shape == plain.shape and not torch.allclose(seen, plain, atol=0.05)
    if options == dict(hflip=1.0):
        assert torch.equal(seen, plain.flip(3))
    if options == dict(vflip=1.0):
        assert torch.equal(seen, plain.flip(2))
    assert np.array_equal(
        predict_logits(model, parts['validation'], altered),
        predict_logits(model, parts['validation'], config),
    )
    off = load_config('quick', batch_size=16, no_aug=True, **options)
    assert not off.alters


def test_nothing_altered_is_the_picture_itself(place):
    "Steps that do nothing give what is stored, for pictures that are not square too."
    _, _, config, parts, _ = place
    a = Altered(parts['train'], image_transform(config, (112, 112)), config.cmap)[[3, 5]][0]
    b = model_input(parts['train'][[3, 5]], make_model(config, 4), config, CPU)[0][0]
    assert torch.equal(
        model_input((a, *parts['train'][[3, 5]][1:]), make_model(config, 4), config, CPU)[0][0], b
    )
    crop, distort, to_tensor = image_transform(config, (40, 96))
    picture = np.random.default_rng(0).integers(0, 256, (40, 96, 3), np.uint8)
    assert np.array_equal(
        to_tensor(distort(crop(Image.fromarray(picture)))).permute(1, 2, 0).numpy(), picture
    )


@pytest.mark.parametrize(
    'aa',
    [
        'rand-m10-mstd1-inc1',
        'rand-m9-mstd0.5',
        'augmix-m10-w4',
        'v0',
        'v0r',
        'original',
        'originalr',
        '3a',
    ],
)
def test_no_augmentation_of_timm_fails_on_a_picture(place, aa):
    crop, distort, to_tensor = image_transform(load_config('quick', aa=aa), (112, 112))
    picture = Image.fromarray(
        Altered(place[3]['train'], image_transform(place[2], (112, 112)), 'magma')[[0]][0][
            0
        ].numpy()
    )
    for i in range(400 if not aa.startswith('augmix') else 60):
        with seeded(aa, i):
            assert to_tensor(distort(crop(picture))).shape == (3, 112, 112)


def test_workers_change_nothing(place):
    alone, helped = (
        one_epoch(place, hflip=0.5, aa='rand-m9-mstd0.5-inc1', mixup=0.4, workers=n) for n in (0, 2)
    )
    assert alone[0] == helped[0] and torch.equal(alone[1], helped[1])


ACTS = dict(
    jsd=dict(aa='augmix-m3', aug_splits=3, jsd=True),
    views=dict(aa='rand-m9', aug_splits=2),
    resplit=dict(aa='rand-m9', aug_splits=2, reprob=1.0, resplit=True),
    elem=dict(mixup=0.8, mixup_mode='elem'),
    pair=dict(mixup=0.8, cutmix=1.0, mixup_mode='pair'),
    batch=dict(mixup=0.8),
    minmax=dict(cutmix_minmax=(0.2, 0.8)),
    erased=dict(reprob=1.0, remode='const'),
    twice=dict(reprob=1.0, remode='const', recount=3),
    eps=dict(opt_eps=1e-2),
    betas=dict(opt_betas=(0.5, 0.6)),
    value=dict(clip_grad=1e-3, clip_mode='value'),
    agc=dict(clip_grad=1e-3, clip_mode='agc'),
    norm=dict(clip_grad=1e-3),
    l1=dict(weights_regularization=True),
    momentum=dict(opt='sgd', momentum=0.5),
    drop=dict(drop=0.3),
    attn_drop=dict(attn_drop=0.4),
    drop_path=dict(drop_path=0.5),
    smoothing=dict(smoothing=0),
    weight_decay=dict(weight_decay=0.5),
    grey=dict(in_chans=1),
    cmap=dict(cmap='jet'),
)


@pytest.fixture(scope='module')
def plain(place):
    return one_epoch(place)


@pytest.mark.parametrize('name', ACTS)
def test_an_option_changes_training(name, place, plain):
    loss, weights = one_epoch(place, **ACTS[name])
    assert np.isfinite(loss) and (
        len(weights) != len(plain[1]) or not torch.equal(weights, plain[1])
    )
    if name in ('jsd', 'views', 'erased'):
        assert torch.equal(one_epoch(place, no_aug=True, **ACTS[name])[1], plain[1])
    if name == 'l1':
        assert loss > plain[0] + 1  # the norm of 4 x 128 weights of 0.02 is about 8
    if name == 'resplit':
        assert not torch.equal(weights, one_epoch(place, **ACTS[name] | dict(resplit=False))[1])


def test_the_memory_format_changes_no_answer(place):
    _, _, config, parts, _ = place
    planes = replace(config, channels_last=False)
    a, b = (predict_logits(make_model(c, 4), parts['validation'], c) for c in (config, planes))
    assert np.abs(a - b).max() < 1e-5 and planes.hash == config.hash
    assert abs(one_epoch(place, channels_last=False)[0] - one_epoch(place)[0]) < 1e-3


def rates(**options):
    config = load_config('quick', **dict(warmup_epochs=0, epochs=12) | options)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], config.lr)
    scheduler, epochs = make_schedule(config, optimizer)
    out = []
    for e in range(epochs):
        out.append(optimizer.param_groups[0]['lr'])
        scheduler.step(e + 1, 0.0)
    return out


@pytest.mark.filterwarnings('ignore:PlateauLRScheduler')
def testmake_schedules():
    plain = rates()
    assert len(plain) == 12 and plain == sorted(plain, reverse=True)
    noisy = rates(lr_noise=(0.5, 0.9))
    assert noisy[:6] == plain[:6] and noisy[6:10] != plain[6:10] and noisy[11] == plain[11]
    assert (
        rates(lr_noise=0.5)[11] != plain[11]
        and rates(lr_noise=(0.5, 0.9), lr_noise_std=0.1) != noisy
        and noisy == rates(lr_noise=(0.5, 0.9)) != rates(lr_noise=(0.5, 0.9), seed=1)
    )
    assert (
        max(abs(a - b) / b for a, b in zip(rates(lr_noise=(0, 1), lr_noise_pct=0.05), plain)) < 0.05
    )
    assert len(rates(lr_cycle_limit=2)) == 24 and len(rates(lr_cycle_limit=2, lr_cycle_mul=2)) == 36
    assert rates(cooldown_epochs=3)[:12] == plain and len(rates(cooldown_epochs=3)) == 15
    assert (
        rates(sched='step', decay_epochs=4, decay_rate=0.5)[4] == plain[0] / 2
        and rates(sched='plateau', patience_epochs=2, decay_rate=0.1)[11] < plain[0]
        and len(set(rates(sched='constant'))) == 1
    )
    for sched in ('tanh', 'poly'):
        assert rates(sched=sched) != plain
    assert rates(warmup_epochs=4, warmup_lr=1e-4)[0] == 1e-4 and rates(min_lr=5e-4)[11] > 4e-4


def test_mixing_stops_and_labels_follow(place):
    assert torch.equal(
        one_epoch(place, mixup=0.8, mixup_prob=0.0)[1],
        one_epoch(place, mixup=0.8, mixup_prob=0.0, mixup_mode='elem')[1],
    )  # nobody is mixed
    _, _, _, parts, _ = place
    off = load_config('quick', batch_size=16, mixup=0.8, mixup_off_epoch=1)
    model = make_model(off, 4)
    frozen = torch.optim.SGD(model.parameters(), 0.0)
    same = [
        train_epoch(model, parts['train'], c, frozen, 1, CPU)
        for c in (off, replace(off, mixup=0.0))
    ]
    assert same[0] == same[1]


@pytest.mark.filterwarnings(
    'ignore:PlateauLRScheduler'
)  # timm warns that it keeps no state: it is made again from the history
@pytest.mark.parametrize(
    'options',
    [
        dict(sched='plateau', patience_epochs=0, decay_rate=0.3, eval_metric='loss'),
        dict(lr_noise=0.2, lr_cycle_limit=2, epochs=3),
        dict(sched='step', decay_epochs=2),
    ],
)
def test_an_interrupted_run_ends_as_the_whole_one(place, tmp_path, options, monkeypatch):
    root, split, config, parts, pca = place
    c, whole = (
        replace(config, **dict(epochs=6, warmup_epochs=1, checkpoint_hist=2, lr=0.05) | options),
        t.train_epoch,
    )
    train(parts, pca, split, c, tmp_path / 'a', device='cpu')

    def stops(model, data, config, optimizer, epoch, *rest):
        if epoch == 3:
            raise KeyboardInterrupt
        return whole(model, data, config, optimizer, epoch, *rest)

    monkeypatch.setattr(t, 'train_epoch', stops)
    with pytest.raises(KeyboardInterrupt):
        train(parts, pca, split, c, tmp_path / 'b', device='cpu')
    monkeypatch.setattr(t, 'train_epoch', whole)
    train(parts, pca, split, c, tmp_path / 'b', device='cpu')
    a, b = (pd.read_csv(tmp_path / d / 'summary.csv').drop(columns='seconds') for d in 'ab')
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    assert len(a) == 6 and a.lr.nunique() > 2
    for f in ('model_best', 'resume'):
        assert all(
            torch.equal(v, load_file(tmp_path / 'b' / f'{f}.safetensors')[k])
            for k, v in load_file(tmp_path / 'a' / f'{f}.safetensors').items()
        )
    assert {f.name for f in (tmp_path / 'a').glob('checkpoint-*')} == {
        f.name for f in (tmp_path / 'b').glob('checkpoint-*')
    }


def test_files_of_a_run(place, tmp_path):
    "How many epochs' weights stay, no graphs when not wanted, and where weights came from."
    root, split, config, parts, pca = place
    c = replace(config, epochs=4, warmup_epochs=0, checkpoint_hist=2, save_graphs=False)
    out = train(parts, pca, split, c, tmp_path / 'a', device='cpu')
    best = (
        pd.read_csv(out / 'summary.csv')
        .sort_values('eval_uar', ascending=False, kind='stable')
        .epoch[:2]
    )
    assert {f.name for f in out.glob('checkpoint-*')} == {
        f'checkpoint-{e}.safetensors' for e in best
    }
    assert (
        (out / f'checkpoint-{best.iloc[0]}.safetensors').read_bytes()
        == (out / 'model_best.safetensors').read_bytes()
        and not (out / 'graphs').exists()
        and not (out / 'loaded.csv').exists()
    )
    c = replace(
        config,
        epochs=1,
        warmup_epochs=0,
        lr=0.0,
        min_lr=0.0,
        initial_checkpoint=str(out / 'model_best.safetensors'),
    )
    on = train(parts, pca, split, c, tmp_path / 'b', device='cpu')
    made, loaded = (
        json.loads((on / 'provenance.json').read_text())['start'],
        pd.read_csv(on / 'loaded.csv'),
    )
    assert (
        made['file'] == 'model_best.safetensors'
        and len(made['sha256']) == 64
        and made['loaded'] == len(loaded) == (loaded.what == 'loaded').sum()
    )
    a, b = (
        load_run(f)[0].state_dict() for f in (out, on)
    )  # at a rate of nothing they are the weights that it started from
    assert all(torch.equal(a[k], b[k]) for k in a) and not list(on.glob('checkpoint-*'))
    assert [p.name for p in (on / 'graphs').iterdir()] != []


def test_eval_at_other_sizes_and_places(place, on_disk, tmp_path):
    root = place[0]
    r = run(
        'train',
        on_disk,
        '-c',
        'quick',
        '--epochs',
        1,
        '--warmup-epochs',
        0,
        '--root-output-dir',
        tmp_path / 'train',
        '--features',
        root / 'features',
        '--device',
        'cpu',
        '--jobs',
        1,
    )
    assert r.exit_code == 0, r.output
    ran = next(tmp_path.rglob('args.yaml')).parent
    told = (
        '--features',
        root / 'features',
        '--device',
        'cpu',
        '--jobs',
        1,
        '--data-test-path',
        on_disk / 'eval_data',
    )
    shown = {}
    for name, more in dict(
        plain=(),
        small=('--img-size', 80),
        inputs=('--input-size', 3, 80, 80),
        cropped=('--crop-pct', 0.7),
        one=('-b', 1, '--num-workers', 1, '--num-classes', 4),
    ).items():
        r = run('eval', ran, *told, *more, '--output-dir', tmp_path / name)
        assert r.exit_code == 0, r.output
        where = tmp_path / name / 'test' / ran.relative_to(tmp_path / 'train')
        assert {f.name for f in where.iterdir()} == {
            'performance.yaml',
            'predictions.csv',
            'conf_matrix.png',
        } and not (ran / 'performance.yaml').exists()
        shown[name] = (where / 'predictions.csv').read_text()
    assert shown['small'] == shown['inputs'] != shown['plain'] != shown['cropped']
    assert [line.split(',')[:6] for line in shown['one'].splitlines()] == [
        line.split(',')[:6] for line in shown['plain'].splitlines()
    ]


def test_a_run_starts_from_a_checkpoint_in_the_references_format(place, on_disk, tmp_path):
    "A plain CCT of 1000 classes at another size, as timm 0.5 saved it; its names are those of the published weights."
    root, *_ = place
    with torch.random.fork_rng():
        given = create_model('cct_2_7x2_112', num_classes=1000, img_size=64)
    torch.save(
        {
            'epoch': 3,
            'arch': 'cct',
            'state_dict': given.state_dict(),
            'version': 2,
            'args': argparse.Namespace(lr=0.1),
            'metric': 50.0,
        },
        tmp_path / 'theirs.pth.tar',
    )
    command = (
        'train',
        on_disk,
        '-c',
        'quick',
        '--epochs',
        1,
        '--warmup-epochs',
        0,
        '--pretrained-model',
        tmp_path / 'theirs.pth.tar',
        '--root-output-dir',
        tmp_path / 'train',
        '--features',
        root / 'features',
        '--device',
        'cpu',
        '--jobs',
        1,
    )
    r = run(*command)
    assert r.exit_code == 0 and 'theirs.pth.tar: ' in r.output and 'resized' in r.output, r.output
    out = next(tmp_path.rglob('args.yaml')).parent
    table, made = (
        pd.read_csv(out / 'loaded.csv').set_index('entry'),
        json.loads((out / 'provenance.json').read_text())['start'],
    )
    assert (
        f'{MODEL}-pretrained' in out.parts
        and made['file'] == 'theirs.pth.tar'
        and made['loaded'] == (table.what == 'loaded').sum() == 26
    )
    assert (
        table.what['classifier.positional_emb'] == 'resized'
        and table.what['classifier.fc.weight'] == 'new'
        and table.what['classifier.attention_pool_cct.weight'] == 'renamed'
    )
    before = (out / 'model_best.safetensors').read_bytes()
    r = run(*command)
    assert (
        r.exit_code == 0
        and 'theirs.pth.tar: ' not in r.output
        and (out / 'model_best.safetensors').read_bytes() == before
    )  # it had ended: nothing is loaded again
    torch.save(
        {'state_dict': create_model('cct_4_7x2_112').state_dict()}, tmp_path / 'theirs.pth.tar'
    )
    assert (
        next(iter((tmp_path / 'train').rglob('args.yaml'))).parent == out
        and load_config(out / 'args.yaml').hash[:6] not in out.name
    )  # other content, another run
    r = run(*command)
    assert r.exit_code == 1 and 'has no place in the model' in r.output


THERE = [
    'data_train_dir',
    'config',
    'root_output_dir',
    'pretrained_model',
    'weights_regularization',
    'save_graphs',
    'dataset',
    'train-split',
    'val-split',
    'model',
    'pretrained',
    'initial-checkpoint',
    'resume',
    'no-resume-opt',
    'num-classes',
    'gp',
    'img-size',
    'input-size',
    'crop-pct',
    'mean',
    'std',
    'interpolation',
    'batch-size',
    'validation-batch-size-multiplier',
    'opt',
    'opt-eps',
    'opt-betas',
    'momentum',
    'weight-decay',
    'clip-grad',
    'clip-mode',
    'sched',
    'lr',
    'lr-noise',
    'lr-noise-pct',
    'lr-noise-std',
    'lr-cycle-mul',
    'lr-cycle-limit',
    'warmup-lr',
    'min-lr',
    'epochs',
    'epoch-repeats',
    'start-epoch',
    'decay-epochs',
    'warmup-epochs',
    'cooldown-epochs',
    'patience-epochs',
    'decay-rate',
    'no-aug',
    'scale',
    'ratio',
    'hflip',
    'vflip',
    'color-jitter',
    'aa',
    'aug-splits',
    'jsd',
    'reprob',
    'remode',
    'recount',
    'resplit',
    'mixup',
    'cutmix',
    'cutmix-minmax',
    'mixup-prob',
    'mixup-switch-prob',
    'mixup-mode',
    'mixup-off-epoch',
    'smoothing',
    'train-interpolation',
    'drop',
    'drop-connect',
    'drop-path',
    'drop-block',
    'bn-tf',
    'bn-momentum',
    'bn-eps',
    'sync-bn',
    'split-bn',
    'dist-bn',
    'seed',
    'log-interval',
    'recovery-interval',
    'checkpoint-hist',
    'workers',
    'save-images',
    'amp',
    'apex-amp',
    'native-amp',
    'channels-last',
    'pin-mem',
    'no-prefetcher',
    'experiment',
    'eval-metric',
    'tta',
    'data_eval_dir',
    'output_dir',
    'num_workers',
    'data_test_path',
    'augmentation',
    'model_path',
    'datasets_dir',
    'overwrite',
    'spectrogram',
    'colored_spectrogram',
    'augmentations',
    'window',
    'n_components',
    'output_pca_model',
    'save_2D_embed_compare',
    'eval_dataset',
    'num_classes',
    'balanced',
    'percent_subject_validation',
    'train_datasets',
]


def test_the_page_on_the_reference_has_a_row_for_each_flag():
    page = nbformat.read(
        Path(__file__).parent.parent / 'nbs' / 'paper' / 'reference.ipynb', as_version=4
    )
    first = '\n'.join(
        line.split('|')[1]
        for c in page.cells
        for line in c.source.splitlines()
        if line.startswith('|')
    )
    assert not [flag for flag in THERE if f'`{flag}`' not in first]
