"""Coverage-guided fuzzing of the reader of bundles: whatever the bytes are, a model or one typed error.

`python tests/security/fuzz_bundle.py -runs=5000` (needs the extra `fuzz`; other arguments are libFuzzer's).
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=['speaker_vgg_cct', 'json']):
    from speaker_vgg_cct.core import SVCError
    from speaker_vgg_cct.inference.recognizer import SHIPPED, Recognizer, read_bundle, write_bundle

ARRAYS, TOLD = read_bundle(SHIPPED)
# a tenth of the shipped one, for speed: the graph alone, and of the speaker encoders the functionals
ARRAYS = {
    k: v[..., -38:] if k.startswith('projection/') else v
    for k, v in ARRAYS.items()
    if k.startswith('projection/') or k == 'graph/network'
}
TOLD = TOLD | {'encoders': ['functionals']}
FILE = Path(tempfile.mkdtemp()) / 'x.svc'
WHOLE = write_bundle(FILE, ARRAYS, TOLD).read_bytes()
Recognizer.load(FILE, runtime='onnx')


def strange(data, depth=0):
    "Any value that JSON can hold."
    kind = data.ConsumeIntInRange(0, 6 if depth < 2 else 4)
    if kind == 5:
        return [strange(data, depth + 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    if kind == 6:
        return {
            data.ConsumeUnicodeNoSurrogates(8): strange(data, depth + 1)
            for _ in range(data.ConsumeIntInRange(0, 3))
        }
    return (
        None,
        data.ConsumeBool(),
        data.ConsumeInt(8),
        data.ConsumeRegularFloat(),
        data.ConsumeUnicodeNoSurrogates(12),
    )[kind]


def changed(data):
    "The shipped bundle with entries and arrays replaced."
    told, arrays = json.loads(json.dumps(TOLD)), dict(ARRAYS)
    for _ in range(data.ConsumeIntInRange(0, 2)):
        at = told
        while True:
            key = data.PickValueInList(sorted(at))
            if not (isinstance(at[key], dict) and at[key] and data.ConsumeBool()):
                break
            at = at[key]
        at[key] = strange(data)
    if data.ConsumeBool():
        name = data.PickValueInList(sorted(arrays))
        a = arrays[name]
        arrays[name] = (
            a[:1],
            a[:0],
            a.astype(np.float64),
            a.astype(np.int8),
            np.zeros(data.ConsumeIntInRange(0, 9), np.float32),
        )[data.ConsumeIntInRange(0, 4)]
    write_bundle(FILE, arrays, told)


def one(given):
    data = atheris.FuzzedDataProvider(given)
    if data.ConsumeBool():
        changed(data)
    else:
        whole = bytearray(WHOLE)
        for _ in range(data.ConsumeIntInRange(0, 8)):
            whole[data.ConsumeIntInRange(0, 20000)] = data.ConsumeIntInRange(0, 255)
        FILE.write_bytes(
            bytes(whole[: data.ConsumeIntInRange(0, len(whole))]) + data.ConsumeBytes(64)
        )
    try:
        Recognizer.load(FILE, runtime='onnx')
    except SVCError as e:
        assert str(FILE) in str(e) and len(str(e)) < 3000, e


atheris.Setup(sys.argv, one)
atheris.Fuzz()
