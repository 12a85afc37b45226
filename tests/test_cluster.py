"Real clusters of several processes on this machine: the same features, rows and errors as without; and workers killed at work."

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import speaker_vgg_cct
from speaker_vgg_cct.cli.verbs import app
from speaker_vgg_cct.core import in_parallel
from speaker_vgg_cct.data.synthetic import build
from speaker_vgg_cct.experiments.results import KEY, read_table
from speaker_vgg_cct.parallel import on_cluster

distributed = pytest.importorskip('distributed', reason='needs the extra `dask`')


def run(*args, status=0):
    r = CliRunner().invoke(app, list(map(str, args)))
    assert r.exit_code == status, f'{args}\n{r.output}\n{r.exception}'
    return r.stderr if status else r.output


BUSY = 600  # seconds that a busy machine may need for what takes a moment on a free one


@pytest.fixture(autouse=True)
def patient(monkeypatch, request):
    "Commands wait longer for an answer than for a user, unless there is nobody to answer."
    if request.node.originalname == 'test_what_cannot_work_is_one_line':
        return
    monkeypatch.setattr('speaker_vgg_cct.parallel.on_cluster', partial(on_cluster, wait=BUSY))


def until(condition):
    "Waits until something is so."
    end = time.monotonic() + BUSY
    while not condition():
        assert time.monotonic() < end, 'it never came'
        time.sleep(0.05)


@pytest.fixture(scope='module')
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs='CRITICAL'
    ) as c:
        yield c


@pytest.fixture(scope='module')
def corpora(tmp_path_factory):
    return build(
        tmp_path_factory.mktemp('cluster') / 'corpora',
        corpora=('SYNTH_A',),
        speakers=3,
        sentences=1,
    )


def files(folder):
    "What is there by its name; hidden is what a killed worker had begun to write."
    found = {
        f.relative_to(folder): f.read_bytes() for f in Path(folder).rglob('[!.]*') if f.is_file()
    }
    assert found
    return found


@contextmanager
def a_worker_dies(address, mark):
    "The worker that begins the second task of all is killed, and leaves nothing but `mark`."
    begun = mark.with_name('begun')

    class Dies(distributed.WorkerPlugin):
        name = 'dies'

        def transition(self, key, start, finish, **more):
            if finish != 'executing':
                return
            try:
                begun.touch(exist_ok=False)
            except FileExistsError:
                try:
                    mark.touch(exist_ok=False)
                except FileExistsError:
                    return
                os.kill(os.getpid(), signal.SIGKILL)

    with distributed.Client(address, timeout=BUSY, set_as_default=False) as client:
        client.register_plugin(Dies())
        yield
        client.unregister_worker_plugin('dies')


def kill_a_worker(address, when):
    "A thread that kills one worker of a cluster as soon as `when` is true."

    def wait():
        with distributed.Client(address, set_as_default=False) as client:
            pid = min(client.run(os.getpid).values())
        while not when():
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_embeddings_are_those_of_one_machine(cluster, corpora, tmp_path):
    shown = run(
        'embeddings',
        '--datasets-dir',
        corpora,
        '--out',
        tmp_path / 'there',
        '--backend',
        'dask',
        '--address',
        cluster.scheduler_address,
    )
    assert '2 tasks at a time' in shown and 'lost' not in shown
    run('embeddings', '--datasets-dir', corpora, '--out', tmp_path / 'here', '--jobs', 1)
    assert files(tmp_path / 'there') == files(tmp_path / 'here')


def test_a_worker_is_killed_and_no_picture_is_lost(cluster, corpora, tmp_path):
    options = ('--datasets-dir', corpora, '--augmentations', 'mask', '--out', tmp_path / 'out')
    with a_worker_dies(cluster.scheduler_address, tmp_path / 'died'):
        shown = run(
            'spectrograms',
            *options,
            '--pictures-dir',
            tmp_path / 'there',
            '--backend',
            'dask',
            '--address',
            cluster.scheduler_address,
        )
    assert (tmp_path / 'died').exists()
    run('spectrograms', *options, '--pictures-dir', tmp_path / 'here', '--jobs', 1)
    assert files(tmp_path / 'there') == files(tmp_path / 'here') and len(
        files(tmp_path / 'here')
    ) == 2 * len([*corpora.rglob('*.wav')])
    again = [line for line in shown.splitlines() if 'were run again' in line]
    assert len(again) == 1 and int(again[0].split()[0]) > 0, shown


@pytest.mark.parametrize(
    'options, said',
    [
        (('--backend', 'dask', '--address', '{free}'), 'no dask cluster answers'),
        (('--backend', 'ray', '--address', '{free}'), 'no ray cluster answers'),
        (('--backend', 'dask', '--address', 'no address'), 'no dask cluster answers'),
        (('--backend', 'dusk', '--address', 'x'), "Did you mean 'dask'?"),
        (('--backend', 'dask'), 'belong together'),
        (('--address', 'x'), 'belong together'),
    ],
)
def test_what_cannot_work_is_one_line(corpora, tmp_path, options, said):
    with socket.socket() as held:  # a port on which nobody listens, and nobody else can
        held.bind(('127.0.0.1', 0))
        free = f'127.0.0.1:{held.getsockname()[1]}'
        shown = run(
            'embeddings',
            '--datasets-dir',
            corpora,
            '--out',
            tmp_path / 'out',
            *(o.format(free=free) for o in options),
            status=1,
        )
    assert shown.startswith('error: ') and shown.count('\n') == 1 and said in shown, shown
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('backend, package', [('dask', 'distributed'), ('ray', 'ray')])
def test_a_missing_extra_is_named(cluster, corpora, tmp_path, backend, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    shown = run(
        'embeddings',
        '--datasets-dir',
        corpora,
        '--out',
        tmp_path / 'out',
        '--backend',
        backend,
        '--address',
        cluster.scheduler_address,
        status=1,
    )
    assert (
        shown.startswith('error: ')
        and shown.count('\n') == 1
        and f"pip install 'speaker_vgg_cct[{backend}]'" in shown
    )


@pytest.fixture(scope='module')
def commands(tmp_path_factory):
    "A scheduler and two workers as a user starts them, by command; starts more workers, and yields the scheduler file."
    folder, started = tmp_path_factory.mktemp('scheduler'), []

    def start(*args, **env):
        with open(folder / f'{len(started)}.log', 'w') as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, '-m', *map(str, args)],
                    cwd=folder,
                    stdout=log,
                    stderr=log,
                    env=os.environ | env,
                )
            )
        return started[-1]

    worker = (
        'distributed.cli.dask_worker',
        '--scheduler-file',
        folder / 'scheduler.json',
        '--host',
        '127.0.0.1',
        '--no-dashboard',
    )
    start(
        'distributed.cli.dask_scheduler',
        '--scheduler-file',
        folder / 'scheduler.json',
        '--host',
        '127.0.0.1',
        '--port',
        0,
        '--no-dashboard',
    )
    start(*worker, '--nworkers', 2, '--nthreads', 1)
    until((folder / 'scheduler.json').exists)
    yield folder / 'scheduler.json', lambda *more, **env: start(*worker, *more, **env)
    for p in started[:0:-1]:
        p.terminate()
        p.wait(BUSY)  # the workers end what they have started
    started[0].kill()
    started[0].wait()


def rows(results):
    return (
        read_table(results).drop(columns=['command', 'commit']).sort_values(KEY, ignore_index=True)
    )


@pytest.mark.slow
def test_notebooks_give_the_rows_of_one_machine_although_a_worker_is_killed(
    commands, tmp_path, monkeypatch
):
    pages = {}  # in place of the site, which takes minutes and has tests of its own
    monkeypatch.setattr(
        'speaker_vgg_cct.website.report.build_site',
        lambda site, made, results, **more: pages.update(made) or site,
    )
    corpora = build(tmp_path / 'corpora', sentences=1)

    def report(name, *more):
        return run(
            'report',
            '--corpora',
            corpora,
            '--out',
            tmp_path / name,
            '--results',
            tmp_path / name / 'results',
            '--preset',
            'quick',
            '--epochs',
            3,
            '--warmup-epochs',
            1,
            '--batch-size',
            16,
            '--test-corpora',
            'SYNTH_A,SYNTH_B',
            '--site',
            tmp_path / name / 'site',
            '--device',
            'cpu',
            '--jobs',
            1,
            *more,
        )

    thread = kill_a_worker(
        yaml.safe_load(commands[0].read_text())['address'],
        lambda: [*(tmp_path / 'there').rglob('summary.csv')],
    )
    shown = report('there', '--backend', 'dask', '--address', commands[0])
    thread.join(BUSY)
    assert 'were run again' in shown
    report('here')
    pd.testing.assert_frame_equal(
        rows(tmp_path / 'there' / 'results'), rows(tmp_path / 'here' / 'results')
    )
    assert set(pages) == {'SYNTH_A-seed0', 'SYNTH_B-seed0'} and all(
        p.is_file() for p in pages.values()
    )


@pytest.mark.slow
def test_a_study_gives_the_rows_of_one_machine(commands, tmp_path):
    corpora, short = (
        build(tmp_path / 'corpora', sentences=1),
        dict(group='main', epochs=2, warmup_epochs=0, img_size=32, batch_size=16),
    )
    (tmp_path / 'study.yaml').write_text(
        yaml.safe_dump(
            dict(
                preset='quick',
                split={'balance': 'no_balanced'},
                seeds={'main': [0, 1]},
                systems={'ours': short, 'adapted': short | {'deviation': 'zscore'}},
            )
        )
    )

    def study(name, *more):
        return run(
            'study',
            '--corpora',
            corpora,
            '--systems',
            tmp_path / 'study.yaml',
            '--test-corpora',
            'SYNTH_C',
            '--no-tables',
            '--inner',
            '--out',
            tmp_path / name,
            '--results',
            tmp_path / name / 'results',
            '--device',
            'cpu',
            '--jobs',
            1,
            *more,
        )

    there, here = study('there', '--backend', 'dask', '--address', commands[0]), study('here')

    def said(text):
        return re.findall('SYNTH_C, seed.*', text)

    assert len(said(here)) == 4 and said(there) == said(here)
    pd.testing.assert_frame_equal(
        rows(tmp_path / 'there' / 'results'), rows(tmp_path / 'here' / 'results')
    )

    def weights(name):
        return {
            f.relative_to(tmp_path / name): f.read_bytes()
            for f in (tmp_path / name).rglob('model_best.safetensors')
        }

    assert len(weights('here')) == 8 and weights('there') == weights(
        'here'
    )  # 4 cells, and for each system's first seed one for each corpus left out within


@pytest.mark.slow
@pytest.mark.parametrize('fault', ['code', 'threads'])
def test_a_worker_that_is_not_as_it_should_be_is_refused(commands, corpora, tmp_path, fault):
    shutil.copytree(
        Path(speaker_vgg_cct.__file__).parent,
        tmp_path / 'speaker_vgg_cct',
        ignore=shutil.ignore_patterns('__pycache__'),
    )
    with open(tmp_path / 'speaker_vgg_cct' / 'core.py', 'a') as f:
        f.write('# another state\n')
    odd = (
        commands[1]('--nthreads', 1, '--name', fault, PYTHONPATH=str(tmp_path))
        if fault == 'code'
        else commands[1]('--nthreads', 2, '--name', fault)
    )
    with distributed.Client(scheduler_file=str(commands[0]), set_as_default=False) as client:
        client.wait_for_workers(3, BUSY)
    shown = run(
        'embeddings',
        '--datasets-dir',
        corpora,
        '--out',
        tmp_path / 'out',
        '--backend',
        'dask',
        '--address',
        commands[0],
        status=1,
    )
    assert (
        'another installation' if fault == 'code' else 'several tasks at a time'
    ) in shown and 'Traceback' not in shown
    odd.terminate()
    odd.wait(BUSY)
    with distributed.Client(scheduler_file=str(commands[0]), set_as_default=False) as client:
        until(lambda: len(client.nthreads()) == 2)


@pytest.fixture(scope='module')
def ray_address():
    pytest.importorskip('ray', reason="needs the extra `ray`: pip install 'speaker_vgg_cct[ray]'")
    from ray.cluster_utils import Cluster

    c = Cluster(initialize_head=True, head_node_args={'num_cpus': 2, 'include_dashboard': False})
    yield c.address
    c.shutdown()


def test_ray_does_the_same(ray_address, corpora, tmp_path):
    shown = run(
        'embeddings',
        '--datasets-dir',
        corpora,
        '--out',
        tmp_path / 'there',
        '--backend',
        'ray',
        '--address',
        ray_address,
    )
    assert '2 tasks at a time' in shown
    run('embeddings', '--datasets-dir', corpora, '--out', tmp_path / 'here', '--jobs', 1)
    assert files(tmp_path / 'there') == files(tmp_path / 'here')


def test_ray_runs_a_lost_workers_task_again(ray_address, tmp_path):
    def fragile(i):
        with open(tmp_path / 'ran', 'a') as f:
            f.write(f'{i}\n')
        if i == 5 and not (tmp_path / 'killed').exists():
            (tmp_path / 'killed').touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with on_cluster('ray', ray_address, wait=BUSY):
        assert list(in_parallel(fragile, range(12))) == [*range(12)]
    assert (tmp_path / 'ran').read_text().split().count('5') == 2
