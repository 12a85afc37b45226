"The environment of the two commands: made once, made again when what it should hold changes, never half-made. No package is installed here."

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# stands for `python -m venv .venv`: the environment's own python notes its calls and ends as FAKE_STATUS says
PYTHON = '''#!/bin/sh
mkdir -p .venv/bin
printf '#!/bin/sh\\necho "$@" >> calls\\nexit ${FAKE_STATUS:-0}\\n' > .venv/bin/python
chmod +x .venv/bin/python
'''


@pytest.fixture
def make(tmp_path):
    for f in ('Makefile', 'settings.ini', 'setup.py', 'constraints.txt'):
        shutil.copy(ROOT / f, tmp_path)
    (tmp_path / 'fakepython').write_text(PYTHON)
    (tmp_path / 'fakepython').chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}

    def run(*args, status=0):
        r = subprocess.run(
            ['make', 'PYTHON=./fakepython', *args],
            cwd=tmp_path,
            env=clean | {'FAKE_STATUS': str(status)},
            capture_output=True,
            text=True,
        )
        calls = (
            [c for c in (tmp_path / 'calls').read_text().splitlines() if 'pip install' in c]
            if (tmp_path / 'calls').exists()
            else []
        )
        return r, calls, list(tmp_path.glob('.venv/installed-*'))

    run.folder = tmp_path
    return run


def test_an_interrupted_installation_is_made_again(make):
    failed, calls, stamps = make('env', status=1)
    assert failed.returncode and len(calls) == 1 and not stamps
    ended, calls, stamps = make('env')
    assert (
        ended.returncode == 0 and len(calls) == 3 and len(stamps) == 2
    )  # the package, then the extra `dev`
    assert all('-c constraints.txt' in c for c in calls)


def test_a_finished_one_is_used_again(make):
    make('env')
    _, calls, _ = make('env')
    assert len(calls) == 2


@pytest.mark.parametrize(
    'file, old, new',
    [
        ('settings.ini', 'requirements = numpy', 'requirements = numpy sympy'),
        ('constraints.txt', 'numpy==', 'numpy==9'),
    ],
)
def test_a_changed_dependency_list_rebuilds(make, file, old, new):
    make('env')
    text = (make.folder / file).read_text()
    assert old in text
    (make.folder / file).write_text(text.replace(old, new, 1))
    _, calls, stamps = make('env')
    assert len(calls) == 4 and len(stamps) == 2  # the old stamps went with the old environment


def test_an_unrelated_change_does_not(make):
    make('env')
    f = make.folder / 'settings.ini'
    f.write_text(f.read_text().replace('version = ', 'version = 9.'))
    _, calls, _ = make('env')
    assert len(calls) == 2


def test_no_python_is_said(make):
    r, calls, _ = make('PYTHON=', 'env')
    assert r.returncode and 'Python 3.11' in r.stderr and not calls


def test_lab_opens_the_widgets_and_takes_options(make):
    asked, *_ = make('-n', 'lab', 'LAB=--port 8889 --no-browser')
    (line,) = (entry for entry in asked.stdout.splitlines() if 'jupyter lab' in entry)
    *_, notebook = line.split()
    assert (
        line.startswith('.venv/bin/jupyter lab --port 8889 --no-browser ')
        and (ROOT / notebook).exists()
    )
