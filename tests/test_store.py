"The feature store under what happens to it: killed half-way, filled by two processes, grown."
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np

from speaker_vgg_cct.data import Each, Store, fill

# a store of 60 slow arrays; `jobs` processes, shards of 4
SLOW = '''
import sys, time, numpy as np
from speaker_vgg_cct.data import Each, Store, fill
def compute(i): time.sleep(.02); return np.full(1000, i, np.int64)
if __name__ == '__main__': fill(Store(sys.argv[1], 'slow', {}), {str(i): i for i in range(60)}, Each(compute), jobs=1, shard=4)
'''


def compute(i): return np.full(1000, i, np.int64)


def filler(root): return subprocess.Popen([sys.executable, '-c', SLOW, str(root)], stderr=subprocess.DEVNULL)


def test_killed_anywhere_it_is_whole_again(tmp_path):
    "A kill leaves finished shards and nothing that is taken for one; the rest is computed, nothing twice."
    rng = np.random.default_rng(0)
    for i in range(3):
        p, root = filler(tmp_path/str(i)), tmp_path/str(i)
        while not list(root.glob('slow-*/shard-*.json')) and p.poll() is None: time.sleep(.01)
        time.sleep(rng.uniform(0, .6)); p.send_signal(signal.SIGKILL); p.wait()
        store, computed = Store(root, 'slow', {}), []
        kept = len(store)
        assert kept % 4 == 0 and 0 < kept
        def again(i): computed.append(i); return compute(i)
        fill(store, {str(i): i for i in range(60)}, Each(again), jobs=1, shard=4)
        assert len(computed) == 60 - kept
        assert (store[[str(i) for i in range(60)]] == np.arange(60)[:, None]).all()


def test_two_processes_fill_one_store(tmp_path):
    both = [filler(tmp_path) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    store = Store(tmp_path, 'slow', {})
    assert len(store) == 60 and (store[[str(i) for i in range(60)]] == np.arange(60)[:, None]).all()


def test_memory_does_not_grow_with_the_clips(tmp_path):
    "Sixteen times the clips, no more memory but the index of keys."
    def peak(n):
        store = Store(tmp_path, 'many', {'n': n}); tracemalloc.start()
        fill(store, {str(i): i for i in range(n)}, lambda items: [np.zeros(20_000, np.uint8) + i % 7 for i in items], jobs=1, shard=32)
        _, most = tracemalloc.get_traced_memory(); tracemalloc.stop()
        return most
    few, many = peak(250), peak(4000)
    assert many - few < 0.05*(4000 - 250)*20_000 # a twentieth of what the arrays weigh
