"What stands in more than one place says the same: version, citation, workflow, notes of the version; and the habits of the repository hold."

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat
import pytest
import yaml

import speaker_vgg_cct

ROOT = Path(__file__).resolve().parent.parent


def settings():
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT / 'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def test_one_version():
    version = settings()['version']
    assert (
        speaker_vgg_cct.__version__
        == version
        == str(yaml.safe_load((ROOT / 'CITATION.cff').read_text())['version'])
    )
    notes = re.findall(r'^## (\S+)$', (ROOT / 'CHANGELOG.md').read_text(), re.M)
    assert notes[0] == version and len(set(notes)) == len(notes)


def test_the_workflow_runs_what_continuous_integration_runs():
    workflow = yaml.safe_load((ROOT / '.github' / 'workflows' / 'test.yml').read_text())
    steps = workflow['jobs']['test']['steps']
    assert steps[-1] == {'run': 'bash .ci/run'}
    assert [s['with']['python-version'] for s in steps if 'setup-python' in s.get('uses', '')] == [
        settings()['min_python']
    ]


def test_what_is_told_to_contributors_exists():
    told = (ROOT / 'CONTRIBUTING.md').read_text()
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.M))
    assert set(re.findall(r'`?make ([a-z-]+)', told)) - {'sure'} <= targets
    for file in re.findall(r'(?:tests|nbs|configs)/[\w/.]+\.(?:py|ipynb|yaml)', told):
        assert (ROOT / file).exists(), file


def in_env(*args, cwd=ROOT):
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run(
        args, cwd=cwd, capture_output=True, text=True, env=os.environ | {'PATH': path}
    )


def test_no_test_asserts_on_the_clock_or_the_memory_of_the_machine():
    "Both follow what else the machine does: benchmarks measure them."
    machine = r'perf_counter|process_time|time\.time\(|getrusage|ru_\w+|memory_info|active_children'
    asserted = re.compile(rf'(?:\bassert\b|\btest_(?:eq|ne|close|fail)\().*(?:{machine})')
    lines = [
        (f.name, line)
        for f in (ROOT / 'tests').rglob('*.py')
        for line in f.read_text('utf-8').splitlines()
    ]
    for f in (ROOT / 'nbs').rglob('*.ipynb'):
        if '.ipynb_checkpoints' in f.parts:
            continue
        cells = [c for c in nbformat.read(f, as_version=4).cells if c.cell_type == 'code']
        lines += [(f.name, line) for c in cells for line in c.source.splitlines()]
    assert not [found for found in lines if asserted.search(found[1].split('  #')[0])]


def test_ruff_finds_nothing():
    "In notebooks and tests; and in modules no name that only a cell without `export` defines."
    for what in (
        ['nbs', 'tests', 'setup.py'],
        ['speaker_vgg_cct', '--no-force-exclude', '--isolated', '--select', 'F821'],
    ):
        r = in_env('ruff', 'check', *what, '--output-format', 'concise')
        assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.slow
def test_the_hooks_let_a_clean_checkout_pass_and_stop_a_stale_module(tmp_path):
    if not (ROOT / '.git').exists():
        pytest.skip('not a git checkout')
    assert in_env('git', 'clone', '-q', str(ROOT), str(tmp_path / 'c')).returncode == 0
    r = in_env('pre-commit', 'run', '--all-files', cwd=tmp_path / 'c')
    assert r.returncode == 0, r.stdout + r.stderr
    module = tmp_path / 'c' / 'speaker_vgg_cct' / 'core.py'
    module.write_text(module.read_text().replace('Path', 'Paht', 1))
    r = in_env('pre-commit', 'run', '--all-files', cwd=tmp_path / 'c')
    assert r.returncode == 1 and 'modules are what the notebooks export' in r.stdout
