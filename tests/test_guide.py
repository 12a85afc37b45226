"The guide: what stands in its shell blocks is what its cells run, is known to the command line, and works word for word; the sounds that pages play are sounds; each notebook of the course opens with its question."

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import soundfile as sf
from typer.main import get_command

from speaker_vgg_cct.apps.play import write_sounds
from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import provenance

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / 'nbs'
GUIDE = sorted((NBS / 'guide').glob('*.ipynb'))
STAGES = (
    'data',
    'features',
    'models',
    'encoders',
    'training',
    'evaluation',
)  # the packages that the notebooks of a course explain
COURSE = [p for stage in STAGES for p in sorted((NBS / stage).glob('[0-9]*.ipynb'))]


def cells(nb):
    return nbformat.read(nb, as_version=4).cells


def typed(text):
    return [
        ' '.join(line.partition('#')[0].split())
        for block in re.findall(r'^```sh\n(.*?)^```', text, re.M | re.S)
        for line in block.replace('\\\n', ' ').splitlines()
        if line.strip()
    ]


@pytest.mark.parametrize('nb', GUIDE, ids=lambda p: p.stem)
def test_commands_are_known(nb):
    verbs = get_command(app).commands
    for line in (line for c in cells(nb) if c.cell_type == 'markdown' for line in typed(c.source)):
        words = shlex.split(line.replace('$(which speaker-vgg-cct)', 'speaker-vgg-cct'))
        if 'speaker-vgg-cct' not in words:
            continue
        verb, *rest = words[words.index('speaker-vgg-cct') + 1 :]
        known = {o for p in verbs[verb].params for o in (*p.opts, *p.secondary_opts)}
        assert {w for w in rest if re.match(r'--?[a-z]', w)} <= known, line


@pytest.mark.parametrize('nb', GUIDE, ids=lambda p: p.stem)
def test_cells_run_what_is_shown(nb):
    shown, ran = [], []
    for c in cells(nb):
        if c.cell_type == 'markdown':
            shown += typed(c.source)
        elif 'echo: false' in c.source:
            for line in re.findall(r"^run\(\s*f?'(.*?)'", c.source, re.M):
                ran.append(line)
                assert re.sub(r'\{.*\}', 'ADDRESS', line) in shown, (
                    f'{line} is run, and not shown above'
                )
    assert len(ran) >= {'tutorial': 5, 'paper_recipe': 2, 'use_model': 2}.get(nb.stem, 0)


@pytest.mark.parametrize('nb', COURSE, ids=lambda p: p.stem)
def test_opens_with_its_question(nb):
    title, question, *_ = cells(nb)
    assert re.match(r'# \w+\n\n> \S', title.source) and re.fullmatch(
        r'\*\*The question:\*\* [^\n]+\?', question.source
    )


def test_no_sound_is_stored_in_a_notebook():
    for nb in NBS.rglob('*.ipynb'):
        if '.ipynb_checkpoints' not in nb.parts:
            assert 'data:audio' not in nb.read_text(encoding='utf-8'), nb


def test_sounds_that_pages_play(tmp_path):
    "Of the stored outputs, as the site and `make lab` make them; that the site has them, its links say."
    for nb in COURSE:
        (tmp_path / nb.parent.name).mkdir(exist_ok=True)
        shutil.copy(nb, tmp_path / nb.parent.name / nb.name)
    files = write_sounds(tmp_path)
    assert (
        len({nb.name for nb in COURSE if '<audio' in nb.read_text(encoding='utf-8')}) >= 7
        and len(files) >= 12
    )
    for f in files:
        y, rate = sf.read(f)
        assert (
            rate == 16000
            and 0.5 < len(y) / rate < 5
            and abs(y).max() > 0.01
            and f.stat().st_size < 150_000
        )


@pytest.mark.slow
def test_the_tutorial_word_for_word(tmp_path):
    "As a reader follows it in a terminal, after `make env`: shell blocks into the shell, Python that is seen into `python`. The file that `SVC_TIMES` names gets the seconds that each step took."
    here, env, times = (
        tmp_path,
        os.environ | {'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'},
        [],
    )
    for c in cells(NBS / 'guide' / 'tutorial.ipynb'):
        if c.cell_type == 'code' and not re.search(r'^#\| *(hide|echo: false)', c.source, re.M):
            steps = [f'{shlex.quote(sys.executable)} - <<"END"\n{c.source}\nEND']
        else:
            steps = (
                [
                    line
                    for line in typed(c.source)
                    if not line.startswith(('make env', 'export PATH'))
                ]
                if c.cell_type == 'markdown'
                else []
            )
        for step in steps:
            began = time.perf_counter()
            r = subprocess.run(
                ['bash', '-ec', step], cwd=here, env=env, capture_output=True, text=True
            )
            times.append(
                dict(
                    step='Python' if c.cell_type == 'code' else step,
                    seconds=time.perf_counter() - began,
                )
            )
            if '&& cd ' in step:
                here = here / step.rpartition('cd ')[2]
            assert r.returncode == 0, f'{step}\n{r.stdout}\n{r.stderr}'
    assert (
        'MINE' in (here / 'results' / 'runs.csv').read_text()
        and (here / 'mine.svc').exists()
        and (here / 'site' / 'held_out' / 'MINE-seed0.html').exists()
    )
    assert re.search(r'^new\.wav .*%', r.stdout, re.M)
    if 'SVC_TIMES' in os.environ:
        pd.DataFrame(times).assign(
            cpus=os.cpu_count(),
            **{k: v for k, v in provenance().items() if k in ('commit', 'processor')},
            date=f'{date.today()}',
        ).round(1).to_csv(os.environ['SVC_TIMES'], index=False)
