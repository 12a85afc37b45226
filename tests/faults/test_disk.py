"A disk that is full or may not be written: a clear message, and what was there stays."

import subprocess
import sys

import pytest
from stages import LIMIT, ONE_FAST, product, start


@pytest.fixture
def disk(place, request):
    "A file system of its own in memory, beside the corpora; a function that changes its options."
    folder = place / f'disk-{request.node.callspec.params["stage"]}-{request.node.originalname}'
    folder.mkdir()
    if (
        not sys.platform.startswith('linux')
        or subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=512k', 'svc-test', folder], capture_output=True
        ).returncode
    ):
        pytest.skip('a file system cannot be mounted here: this needs Linux and its root')
    yield (
        folder,
        lambda options: subprocess.run(['mount', '-o', f'remount,{options}', folder], check=True),
    )
    subprocess.run(['umount', '-l', folder], check=True)


def run(folder, log, stage):
    p = start(folder, stage, log)
    p.join(LIMIT)
    return p.exitcode, log.read_text()


@pytest.mark.parametrize('stage', ONE_FAST)
def test_full(place, disk, undisturbed, stage, record_property):
    "It stops with one line that says where and what to do; with more room the same command goes on to the product that it always makes."
    folder, remount = disk
    for size in ('512k', '2m', '200m'):
        remount(f'size={size}')
        status, told = run(folder, place / f'log-{stage}-{size}', stage)
        assert 'Traceback' not in told, told[-3000:]
        if status == 0:
            break
        assert status == 1 and 'No space left' in told and 'Free space' in told, told[-1000:]
    assert status == 0 and size != '512k', told[-1000:]
    assert product(folder, stage) == undisturbed(stage)[0]
    record_property('full disks', 2)


@pytest.mark.parametrize('stage', ONE_FAST)
def test_may_not_be_written(place, disk, stage):
    folder, remount = disk
    remount('ro')
    status, told = run(folder, place / f'log-ro-{stage}', stage)
    assert (
        status == 1
        and 'Read-only file system' in told
        and 'may write to' in told
        and 'Traceback' not in told
    ), told[-1000:]
