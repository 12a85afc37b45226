"A file that was written is there: its rights, its content after a power cut, and the commit that its provenance names."

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import speaker_vgg_cct
from speaker_vgg_cct.core import StoreError, write_text
from speaker_vgg_cct.training.dataset import Store

PACKAGE = Path(speaker_vgg_cct.__file__).parent


@pytest.fixture
def told(monkeypatch):
    "The calls that make a write durable, in their order: what was called, and the name of the file or folder."
    calls, fsync, replace = [], os.fsync, os.replace

    def spy_fsync(fd):
        calls.append(('sync', Path(os.readlink(f'/proc/self/fd/{fd}')).name))
        fsync(fd)

    def spy_replace(a, b):
        calls.append(('rename', Path(b).name))
        replace(a, b)

    monkeypatch.setattr(os, 'fsync', spy_fsync)
    monkeypatch.setattr(os, 'replace', spy_replace)
    return calls


linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks at /proc')


@linux
def test_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, told):
    write_text(tmp_path / 'new' / 'x.txt', 'content')
    (first, file), *others = told
    assert first == 'sync' and file.startswith('.x-') and file.endswith('.txt')
    assert others == [('rename', 'x.txt'), ('sync', 'new')]


@linux
def test_a_shard_is_on_the_disk_before_its_keys_are(tmp_path, told):
    store = Store(tmp_path, 'some', {})
    told.clear()
    store.add(['a'], [np.zeros(3)])
    kinds = [(what, Path(name).suffix) for what, name in told]
    one = [('sync', '.npy'), ('rename', '.npy'), ('sync', '')]
    assert kinds == one + [(what, suffix and '.json') for what, suffix in one]


def test_the_umask_of_the_process_is_left_alone(tmp_path, monkeypatch):
    "It is one for all threads: another one that makes a file meanwhile would make it for everybody."
    before = os.umask(0o027)
    try:

        def refuse(mask):
            raise AssertionError('the umask is changed')

        with monkeypatch.context() as m:
            m.setattr(os, 'umask', refuse)
            write_text(tmp_path / 'x.txt', 'content')
        assert stat.S_IMODE((tmp_path / 'x.txt').stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_a_disk_that_is_full_only_when_it_is_synced(tmp_path, monkeypatch):
    write_text(tmp_path / 'x.txt', 'old')

    def full(fd):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(StoreError, match='No space left'):
        write_text(tmp_path / 'x.txt', 'new')
    assert [f.name for f in tmp_path.iterdir()] == ['x.txt'] and (
        tmp_path / 'x.txt'
    ).read_text() == 'old'


def git(folder, *args):
    who = '-c', 'user.name=a', '-c', 'user.email=a@b.invalid', '-c', 'commit.gpgsign=false'
    return subprocess.run(
        ['git', *who, *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def installed(folder):
    "The package in `folder`, as far as it says its commit."
    (folder / 'speaker_vgg_cct').mkdir(parents=True)
    for f in ('__init__.py', 'core.py'):
        shutil.copy(PACKAGE / f, folder / 'speaker_vgg_cct')
    return folder


def commit_of(folder, **env):
    code = 'from speaker_vgg_cct.core import git_commit; print(git_commit())'
    env = os.environ | {'PYTHONPATH': str(folder), 'PYTHONDONTWRITEBYTECODE': '1'} | env
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=folder,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def somebody(tmp_path):
    "A repository of somebody else, with a commit."
    (tmp_path / 'theirs').mkdir()
    git(tmp_path / 'theirs', 'init', '-q')
    (tmp_path / 'theirs' / 'settings.ini').write_text('[DEFAULT]\nlib_name = another\n')
    git(tmp_path / 'theirs', 'add', '.')
    git(tmp_path / 'theirs', 'commit', '-qm', 'theirs')
    return tmp_path / 'theirs'


def test_the_commit_of_a_repository_around_an_environment_is_not_ours(somebody):
    assert commit_of(installed(somebody / '.venv' / 'lib')) == 'unknown'


def test_nor_is_that_of_a_repository_that_carries_a_copy(somebody):
    installed(somebody / 'vendored')
    git(somebody, 'add', '.')
    git(somebody, 'commit', '-qm', 'a copy')
    assert commit_of(somebody / 'vendored') == 'unknown'


def test_nor_that_of_a_checkout_of_ours_around_another_installation(tmp_path):
    "A version that was installed into an environment inside a checkout is not the code of that checkout."
    (tmp_path / 'settings.ini').write_text('[DEFAULT]\nlib_name = speaker_vgg_cct\n')
    git(tmp_path, 'init', '-q')
    git(tmp_path, 'add', '.')
    git(tmp_path, 'commit', '-qm', 'ours')
    assert commit_of(installed(tmp_path / '.venv' / 'lib')) == 'unknown'


def test_the_commit_of_our_checkout(tmp_path, somebody):
    ours = installed(tmp_path / 'ours')
    (ours / 'settings.ini').write_text('[DEFAULT]\nlib_name = speaker_vgg_cct\n')
    git(ours, 'init', '-q')
    git(ours, 'add', '.')
    git(ours, 'commit', '-qm', 'ours')
    head = git(ours, 'rev-parse', '--short=10', 'HEAD')
    assert commit_of(ours) == head
    assert commit_of(ours, GIT_DIR=str(somebody / '.git'), GIT_WORK_TREE=str(somebody)) == head, (
        'as in a hook of git'
    )
    (ours / 'settings.ini').write_text('[DEFAULT]\nlib_name = speaker_vgg_cct\nversion = 9\n')
    assert commit_of(ours) == f'{head}+'


def test_a_file_that_a_library_replaces_keeps_the_rights_of_the_umask(tmp_path):
    "safetensors writes a private file of its own and renames it over the one that it is given."
    from safetensors.numpy import save_file

    from speaker_vgg_cct.core import atomic

    write_text(tmp_path / 'plain.txt', 'x')
    with atomic(tmp_path / 'x.safetensors') as tmp:
        save_file({'x': np.zeros(2)}, tmp)
    mode = stat.S_IMODE((tmp_path / 'x.safetensors').stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / 'plain.txt').stat().st_mode)
