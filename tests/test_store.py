"The feature store under what happens to it: killed half-way, filled by two processes, grown."

import multiprocessing
import os
import time
import tracemalloc

import numpy as np
import pytest

from speaker_vgg_cct.training.dataset import Each, Store, fill


def compute(i):
    return np.full(1000, i, np.int64)


def work(root, processes, where, n):
    """Fills a store of 60 slow arrays, in shards of 4.

    It begins when so many processes are there. It stands still at the n-th array or file, to be killed."""
    seen, replace = dict(array=0, file=0), os.replace

    def at(what):
        seen[what] += 1
        if (what, seen[what]) == (where, n):
            (root / 'stands').touch()
            time.sleep(1e6)

    def renamed(*args):
        at('file')
        return replace(*args)

    def slowly(i):
        at('array')
        time.sleep(0.01)
        return compute(i)

    os.replace = renamed
    (root / f'here-{os.getpid()}').touch()
    while len(list(root.glob('here-*'))) < processes:
        time.sleep(0.01)
    fill(Store(root, 'slow', {}), {str(i): i for i in range(60)}, Each(slowly), jobs=1, shard=4)


def filler(*args):
    "`work` in a process that has the program loaded already."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['speaker_vgg_cct.training.dataset'])
    p = context.Process(target=work, args=args)
    p.start()
    return p


# the first file holds the parameters; a shard is two files
@pytest.mark.parametrize(
    'where, n, kept',
    [
        ('array', 7, 4),
        ('array', 9, 8),
        ('array', 60, 56),
        ('file', 4, 4),
        ('file', 5, 4),
        ('file', 6, 8),
    ],
)
def test_killed_anywhere_it_is_whole_again(tmp_path, where, n, kept):
    "A kill leaves finished shards and nothing that is taken for one; the rest is computed, nothing twice."
    p = filler(tmp_path, 1, where, n)
    while not (tmp_path / 'stands').exists():
        assert p.is_alive(), 'it was to stand still'
        time.sleep(0.01)
    p.kill()
    p.join()
    store, computed = Store(tmp_path, 'slow', {}), []
    assert len(store) == kept

    def again(i):
        computed.append(i)
        return compute(i)

    fill(store, {str(i): i for i in range(60)}, Each(again), jobs=1, shard=4)
    assert len(computed) == 60 - kept
    assert (store[[str(i) for i in range(60)]] == np.arange(60)[:, None]).all()


def test_two_processes_fill_one_store(tmp_path):
    both = [filler(tmp_path, 2, 'nowhere', 0) for _ in range(2)]
    for p in both:
        p.join()
    assert [p.exitcode for p in both] == [0, 0]
    store = Store(tmp_path, 'slow', {})
    assert len(store) == 60 and (store[[str(i) for i in range(60)]] == np.arange(60)[:, None]).all()


def test_memory_does_not_grow_with_the_clips(tmp_path):
    "Sixteen times the clips, no more memory but the index of keys."

    def peak(n):
        store = Store(tmp_path, 'many', {'n': n})
        tracemalloc.start()
        fill(
            store,
            {str(i): i for i in range(n)},
            lambda items: [np.zeros(20_000, np.uint8) + i % 7 for i in items],
            jobs=1,
            shard=32,
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(250), peak(4000)
    assert many - few < 0.05 * (4000 - 250) * 20_000  # a twentieth of what the arrays weigh
