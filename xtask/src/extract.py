"""Checks an archive's digest and takes files out of it: extract.py ARCHIVE SHA256 FOLDER PREFIX NAME...

Takes the regular files whose path, less its first folder, is PREFIX + a NAME (a shell pattern), and writes them to
FOLDER under their last name alone, so that no path in the archive can lead outside it.
"""

import fnmatch
import hashlib
import os
import sys
import tarfile

archive, digest, folder, prefix, *names = sys.argv[1:]
with open(archive, "rb") as file:
    got = hashlib.sha256(file.read()).hexdigest()
if got != digest:
    sys.exit(f"{archive}: expected SHA-256 {digest}, got {got}")
os.makedirs(folder, exist_ok=True)
taken = 0
with tarfile.open(archive, "r:gz") as tar:
    for member in tar:
        inner = member.name.partition("/")[2]
        name = inner[len(prefix):]
        if member.isreg() and inner.startswith(prefix) and any(fnmatch.fnmatchcase(name, n) for n in names) and "/" not in name:
            with tar.extractfile(member) as source, open(os.path.join(folder, os.path.basename(name)), "wb") as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
            taken += 1
if taken == 0:
    sys.exit(f"{archive}: holds no {prefix}{' or '.join(names)}")
