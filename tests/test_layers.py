"The packages form layers: each imports from those above it in `LAYERS` only, and nothing heavy before it is used."

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'speaker_vgg_cct'
LAYERS = [
    'core',
    'config',
    'parallel',
    'data',
    'features',
    'models',
    'encoders',
    'training',
    'evaluation',
    'experiments',
    'inference',
    'apps',
    'benchmarks',
    'website',
    'cli',
]
# what takes long to import (NumPy does not), and is therefore imported by the functions that need it
HEAVY = {
    'torch',
    'torchvision',
    'timm',
    'librosa',
    'resemblyzer',
    'opensmile',
    'onnx',
    'matplotlib',
    'pandas',
    'sklearn',
    'scipy',
}


def module_of(file):
    parts = file.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {
    module_of(f): f for f in PACKAGE.rglob('*.py') if f.name not in ('__init__.py', '_modidx.py')
}


def imports_of(module, top_level=False):
    "The modules of the package that a module imports; at its top level only, or inside its functions too."
    tree, found = ast.parse(MODULES[module].read_text()), set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = (
                    module.split('.')[: -node.level] if node.level <= len(module.split('.')) else []
                )
            elif node.module.split('.')[0] == PACKAGE.name:
                base = []
            else:
                continue
            path = [*base, *(node.module or '').removeprefix(PACKAGE.name).strip('.').split('.')]
            name = '.'.join(p for p in path if p)
            found |= (
                {name} if name in MODULES else {f'{name}.{a.name}'.strip('.') for a in node.names}
            )
        elif isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix(f'{PACKAGE.name}.')
                for a in node.names
                if a.name.startswith(f'{PACKAGE.name}.')
            }
    return found & set(MODULES)


def layer(module):
    return LAYERS.index(module.split('.')[0])


@pytest.mark.parametrize('module', sorted(MODULES))
def test_a_module_imports_from_the_layers_above_it_only(module):
    assert {m for m in imports_of(module) if layer(m) > layer(module)} == set()


def test_no_two_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter({m: imports_of(m) for m in MODULES}).prepare()
    except CycleError as e:
        pytest.fail(f'a circle of imports: {" → ".join(e.args[1])}')


def test_the_imports_of_a_module_are_found():
    assert {'core', 'data.audio'} <= imports_of('data.corpora')
    assert 'inference.recognizer' in imports_of('cli.inference')  # inside a function
    assert 'inference.recognizer' not in imports_of('cli.inference', top_level=True)


def loaded_by(statement):
    "The top-level modules that a fresh interpreter has loaded after a statement."
    code = f'{statement}\nimport sys; print(*{{m.split(".")[0] for m in sys.modules}})'
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(run.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    'statement',
    [
        'import speaker_vgg_cct',
        'import speaker_vgg_cct.core',
        'from speaker_vgg_cct.cli.inference import app',
        'from speaker_vgg_cct.cli.command import start',
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(statement):
    assert loaded_by(statement) & HEAVY == set()
