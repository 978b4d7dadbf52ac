#!/usr/bin/env python3
"""Compares what the Java client reads from golden segments with their descriptions: golden.py GOLDEN-DIRECTORY CLASSES."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

golden, classes = sys.argv[1:3]
extra = sys.argv[3:]
CLASS = {'TOO_SHORT': 'not_segment', 'BAD_MAGIC': 'not_segment', 'BYTE_ORDER': 'byte_order', 'VERSION': 'version', 'LAYOUT': 'layout', 'GEOMETRY': 'layout', 'CHECKSUM': 'corrupt', 'NOT_READY': 'corrupt', 'LIMITS': 'corrupt', 'TRUNCATED': 'corrupt'}
JOURNAL = 4096 + 144  # FORMAT 3.2
bad = n = 0

def sub(want, got, path, out):
    if isinstance(want, dict) and isinstance(got, dict):
        for k in got:
            if k in want:
                sub(want[k], got[k], path + '.' + k, out)
            else:
                out.append(f'{path}.{k}: not described')
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            out.append(f'{path}: {len(want)} described, {len(got)} found')
        for i, (a, b) in enumerate(zip(want, got)):
            sub(a, b, f'{path}[{i}]', out)
    elif want != got:
        out.append(f'{path}: described {want!r}, found {got!r}')
with tempfile.TemporaryDirectory() as tmp:
    for f in sorted(glob.glob(golden + '/*.json')):
        want = json.load(open(f))
        n += 1
        q = os.path.join(tmp, 'q')
        shutil.copy(f[:-5] + '.bin', q)
        r = subprocess.run(['java', '-cp', classes, 'io.millrace.GoldenDump', q] + extra, capture_output=True, text=True, timeout=60)
        out = []
        try:
            got = json.loads(r.stdout)
        except ValueError:
            got = {}
            out.append('no answer: ' + r.stderr[-600:])
        if 'refused' in want:
            if CLASS.get(got.get('refused')) != want['refused']['class']:
                out.append(f"{want['refused']}, found {got.get('refused')} {got.get('message')}")
        elif want.get('only') == 'header':
            if 'unsupported' not in got:
                out.append(str(got))
        elif not out:
            snap = dict(re.findall('(\\w+)=(\\d+)', got.pop('snapshot', '')))
            s = want['stats']
            for k, v in s.items():
                j = re.sub('_(.)', lambda m: m[1].upper(), k)
                if j in snap and (not k.endswith('_died')) and (int(snap[j]) != v) and (int(snap[j]) % 2 ** 64 != v):
                    out.append(f'stats.{k}: described {v}, found {snap[j]}')
            got['receive'].sort(key=lambda m: m['position'])
            sub(want, got, '', out)
            journal = open(q, 'rb').read()[JOURNAL:JOURNAL + 8]
            if want['end'] != 'removed' and any(journal):
                out.append(f'the journal is left over: {journal.hex()}')
        if out:
            bad += 1
            print(os.path.basename(f), *out[:8], sep='\n    ')
print(f'{n} golden segments, {bad} differ')
sys.exit(bad > 0)
