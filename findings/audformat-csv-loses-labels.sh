#!/usr/bin/env bash
# Expected: a database whose scheme declares its labels comes back the same, whether its tables are CSV or Parquet.
# Happens: CSV turns the declared labels "NA", "null" and "nan" into missing values (but not "None"), and rounds integers
#   above 2**53 in a column with gaps. Parquet keeps all. Neither saving nor loading reports anything.
# Matters: short codes such as NA ("not applicable") or null ("no emotion") vanish with their clips, only
#   for users who choose the readable storage; long numeric ids of clips or raters collide.
# Source: audformat.Table.load, CSV path: PyArrow's default null strings are used also for columns with a scheme.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 pandas==3.1.1 pyarrow==26.0.1 audformat==1.4.3
venv/bin/python - <<'PROGRAM'
import tempfile
from importlib.metadata import version

import audformat
import pandas as pd

print("audformat", version("audformat"), "pandas", version("pandas"),
      "pyarrow", version("pyarrow"))
labels = ["neutral", "NA", "null", "nan", "None"]
counters = pd.array([1, None, 2**53 + 1, 4, 5], dtype="Int64")
reloaded = {}
for storage in ("parquet", "csv"):
    database = audformat.Database("corpus")
    database.schemes["emotion"] = audformat.Scheme(labels=labels)
    database.schemes["identifier"] = audformat.Scheme("int")
    files = audformat.filewise_index([f"{number}.wav" for number in range(len(labels))])
    database["clips"] = audformat.Table(files)
    database["clips"]["emotion"] = audformat.Column(scheme_id="emotion")
    database["clips"]["emotion"].set(labels)
    database["clips"]["identifier"] = audformat.Column(scheme_id="identifier")
    database["clips"]["identifier"].set(counters)
    with tempfile.TemporaryDirectory() as folder:
        database.save(folder, storage_format=storage)
        table = audformat.Database.load(folder)["clips"].df
    emotions = [None if pd.isna(value) else value for value in table["emotion"]]
    reloaded[storage] = emotions, int(table["identifier"].iloc[2])
    print(f"{storage:7} emotions {emotions}, identifier {reloaded[storage][1]}")
assert reloaded["parquet"] == (labels, 2**53 + 1)
assert reloaded["csv"] == (["neutral", None, None, None, "None"], 2**53)
PROGRAM
