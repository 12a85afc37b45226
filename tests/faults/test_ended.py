"A command that is ended from outside leaves no process behind, nor what is half written."

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from stages import SMALL

from speaker_vgg_cct.data.synthetic import build

LIMIT_S = 600  # for what takes seconds: a limit against waiting for ever
COMMAND = 'from speaker_vgg_cct.cli.command import start; start()'
BUNDLE = 'bundle --corpora corpora --preset small.yaml --device cpu --jobs 2 --out'
# workers with work for a day
BUSY = '''
import time
from speaker_vgg_cct.core import in_parallel
def work(i):
    if i: time.sleep(86400)
for _ in in_parallel(work, range(9), 2): print('begun', flush=True)
'''


def wait_for(what):
    "What `what` returns, as soon as it is something."
    began = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - began < LIMIT_S, what
        time.sleep(0.05)
    return found


def workers(process):
    "The processes of joblib that a process has started."

    def is_worker(c):
        try:
            return 'popen_loky' in ' '.join(c.cmdline())
        except psutil.NoSuchProcess:
            return False

    return [c for c in psutil.Process(process.pid).children(recursive=True) if is_worker(c)]


def all_gone(processes):
    return not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in processes)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_workers_do_not_outlive_the_process_that_they_work_for(number, tmp_path, record_property):
    (tmp_path / 'busy.py').write_text(BUSY)
    p = subprocess.Popen(
        [sys.executable, 'busy.py'],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert p.stdout.readline() == b'begun\n'
    started = wait_for(lambda: len(found := workers(p)) == 2 and found)
    p.send_signal(number)
    assert p.wait(LIMIT_S) == -number
    try:
        wait_for(lambda: all_gone(started))
    finally:
        for c in started:
            if c.is_running():
                c.kill()
    record_property('kills', 1)


def test_a_bundle_that_is_ended_ends_its_workers(tmp_path, record_property):
    number, out = signal.SIGTERM, tmp_path / 'out'
    build(tmp_path / 'corpora', sentences=2, jobs=1)  # more clips than one worker takes at a time
    (tmp_path / 'small.yaml').write_text(SMALL)
    p = subprocess.Popen(
        [sys.executable, '-c', COMMAND, *BUNDLE.split(), str(out)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    started = wait_for(lambda: workers(p))
    children = psutil.Process(p.pid).children(recursive=True)
    p.send_signal(number)
    _, said = p.communicate(timeout=LIMIT_S)
    assert p.returncode == 128 + number, (p.returncode, said[-2000:])
    assert (
        f'ended by {number.name}: the same command goes on' in said.decode()
        and 'Traceback' not in said.decode()
    ), said[-3000:]
    assert all_gone(started), 'they end before the command does'
    wait_for(lambda: all_gone(children))
    assert [f for f in out.rglob('.*') if f.is_file() and f.name != '.lock'] == [], (
        'half-written files'
    )
    record_property('kills', 1)


def test_a_signal_that_is_ignored_stays_ignored():
    "As SIGHUP is under nohup."
    code = (
        'import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'
        'from speaker_vgg_cct.core import ended_by_signals\n'
        'with ended_by_signals(): signal.raise_signal(signal.SIGHUP); print("goes on")'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout == 'goes on\n', done.stderr
