"The cost of the models: counts against formulas worked out by hand, plain attention against ours, and the page. No time is asserted."

from pathlib import Path

import nbformat
import pandas as pd
import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from speaker_vgg_cct.benchmarks import cost
from speaker_vgg_cct.benchmarks.cost import (
    MODELS,
    cost_table,
    count,
    counts_shown,
    plain_attention,
    some_input,
    times_shown,
)
from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import ConfigError
from speaker_vgg_cct.models.cct import FAMILY, SIZES, TWINS, parse_name
from speaker_vgg_cct.models.speaker_cct import SPEAKER_CCTS
from speaker_vgg_cct.website.report import run_pages

PAGE = Path(__file__).resolve().parent.parent / 'nbs' / 'paper' / 'cost.ipynb'


def blocks(tokens, width, ratio, layers=1):
    return layers * tokens * width * ((3 + 1 + 2 * ratio) * width + 2 * tokens)


def by_hand(name):
    "Multiply-adds of a plain model: strided convolutions and pools as Hassani et al. (2021) describe them, blocks, pool or class token, head."
    says, classes = parse_name(name), (FAMILY | TWINS)[name]
    size, side, planes, total = SIZES[says['size']], says['img_size'], 3, 0
    if says['convs']:
        k, stride, pad = (
            says['kernel'],
            max(1, says['kernel'] // 2 - 1),
            max(1, says['kernel'] // 2),
        )
        for layer in range(says['convs']):
            out = size.width if layer == says['convs'] - 1 else 64
            side = (side + 2 * pad - k) // stride + 1
            total, planes, side = total + side**2 * out * planes * k**2, out, (side - 1) // 2 + 1
        tokens = side**2
    else:
        tokens = (side // says['kernel']) ** 2
        total = tokens * size.width * 3 * says['kernel'] ** 2
    vit = name.startswith('vit')
    return (
        total
        + blocks(tokens + vit, size.width, size.ratio, size.layers)
        + (0 if vit else 2 * tokens * size.width)
        + size.width * classes
    )


@pytest.mark.parametrize('name', sorted(FAMILY | TWINS))
def test_counts_are_those_worked_out_by_hand(name):
    assert count(name)['multiply_adds'] == by_hand(name)


def test_the_speaker_costs_what_it_adds():
    plain = by_hand('cct_14_7x2_224') - 384 * (1000 - 4)
    added = {
        kind: count(f'speaker_vgg_cct{kind}_14_7x2_224')['multiply_adds'] - plain
        for kind in ('', '_end_to_end', '_end_to_end_speaker_token')
    }
    longer = blocks(197, 384, 3, 14) - blocks(196, 384, 3, 14)
    assert added == {
        '': blocks(2, 384, 3),
        '_end_to_end': longer + 2 * 384,
        '_end_to_end_speaker_token': longer - 2 * 196 * 384,
    }


@pytest.mark.parametrize(
    'name',
    [
        'cct_7_7x2_224',
        'cvt_6_4_32_sine',
        'vit_4_4_32',
        'speaker_vgg_cct_4_7x2_112',
        'speaker_vgg_cct_end_to_end_4_7x2_112',
        'speaker_vgg_cct_end_to_end_speaker_token_2_7x2_112',
    ],
)
def test_plain_attention_gives_the_same_logits_for_the_same_multiply_adds(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        x = some_input(model, 2, 'cpu')
    with torch.no_grad():
        ours = model(*x)
        with plain_attention(model), FlopCounterMode(display=False) as counter:
            plain = model(*x)
        assert torch.equal(model(*x), ours)
    assert (plain - ours).abs().max() <= 1e-6
    assert counter.get_total_flops() == 2 * 2 * count(name)['multiply_adds']


def test_plain_attention_ends_with_its_block_whatever_happens():
    model = timm.create_model('cct_2_3x2_32')

    def kinds():
        return {type(m).__name__ for m in model.modules()}

    before = kinds()
    with pytest.raises(KeyboardInterrupt), plain_attention(model):
        raise KeyboardInterrupt
    assert kinds() == before


def test_plain_attention_drops_weights_in_training():
    model = timm.create_model('cct_2_3x2_32', attn_drop_rate=0.5, drop_path_rate=0.0)
    x = some_input(model, 2, 'cpu')
    with plain_attention(model), torch.no_grad():
        assert not torch.equal(model(*x), model(*x)) and torch.equal(model.eval()(*x), model(*x))


def test_the_table_has_every_name_and_each_network_once(monkeypatch):
    measured = []

    def measure(name, *args):
        measured.append(name)
        return pd.DataFrame(
            [
                {
                    f'{step}_{kind}': len(measured)
                    for step in ('forward', 'training')
                    for kind in ('ours', 'plain')
                }
            ]
        )

    monkeypatch.setattr(cost, 'measure', measure)
    table = cost_table(device='cpu')
    assert sorted(table.model) == sorted(MODELS) and set(MODELS) == {*FAMILY, *TWINS, *SPEAKER_CCTS}
    networks = table.groupby('network')
    assert (
        table.notna().all(axis=None)
        and len(measured) == len(networks) == table.forward_ours.nunique()
        and (networks.forward_ours.nunique() == 1).all()
    )

    def bare(name):
        return name.replace('_sine', '').replace('_c100', '').replace('_fl', '')

    assert (
        len(networks) == len({bare(n) for n in MODELS})
        and (networks.model.agg(lambda names: len({bare(n) for n in names})) == 1).all()
    )
    times, counts = times_shown(table, 'training'), counts_shown(table)
    assert len(times) == len(networks) and len(counts) == len(
        table.groupby(['network', 'parameters'])
    )
    assert {f'`{n}`' for n in MODELS if bare(n) == n} <= {
        name.split(',')[0] for name in times.index
    }


def test_a_name_that_is_none_is_an_error():
    with pytest.raises(ConfigError, match='cct_14_7x2_224'):
        cost_table(['cct_14_7x2_225'])


def test_the_page_shows_what_the_command_wrote(tmp_path, page):
    assert not any(c.get('outputs') for c in nbformat.read(PAGE, as_version=4).cells), (
        'times are stored in the page'
    )
    names = [
        'cct_2_3x2_32',
        'cct_2_3x2_32_sine',
        'vit_2_4_32',
        'cvt_2_4_32',
        'speaker_vgg_cct_2_7x2_112',
    ]
    done = CliRunner().invoke(
        app,
        [
            'cost',
            *(a for n in names for a in ('--models', n)),
            '--repeats',
            '1',
            '--budget-s',
            '0',
            '--results',
            str(tmp_path),
        ],
    )
    assert done.exit_code == 0, done.output
    written = pd.read_csv(tmp_path / 'cost.csv')
    assert sorted(written.model) == sorted(names) and {
        'processor',
        'torch',
        'commit',
        'date',
        'command',
    } <= set(written)
    outputs, text = page([tmp_path])
    assert (
        any('image/png' in o.get('data', {}) for o in outputs)
        and f'**Measured on** {written.processor[0]}' in text
        and 'plain ÷ ours' in text
    )
    text = text.replace('<wbr>', '').replace('&#95;', '_')
    for name in names:
        assert f'<code>{name.removeprefix("cct_2_3x2_32") or name}</code>' in text
    assert f'{written.forward_ratio.min():.2f} (`' in text


def test_the_page_says_what_makes_a_table_that_lacks(tmp_path, page):
    outputs, text = page([tmp_path])
    assert 'There is no `cost.csv` yet: `speaker-vgg-cct cost` makes it' in text and not any(
        'image/png' in o.get('data', {}) for o in outputs
    )


def test_the_command_refuses_a_name_that_is_none(tmp_path):
    done = CliRunner().invoke(
        app, ['cost', '--models', 'cct_14_7x2_225', '--results', str(tmp_path)]
    )
    assert (
        done.exit_code == 1
        and 'cct_14_7x2_224' in done.output
        and not (tmp_path / 'cost.csv').exists()
    )


@pytest.fixture
def page(tmp_path):
    "The page on the results of folders: its outputs, and their text."

    def made(results):
        run_pages({PAGE: tmp_path / 'out.ipynb'}, results)
        outputs = [
            o
            for c in nbformat.read(tmp_path / 'out.ipynb', as_version=4).cells
            for o in c.get('outputs', [])
        ]
        return outputs, '\n'.join(
            o.data['text/markdown'] for o in outputs if 'text/markdown' in o.get('data', {})
        )

    return made
