"""Checks an archive's digest and takes files out of it: extract.py ARCHIVE SHA256 FOLDER PREFIX NAME...

Takes the regular files whose path, less its first folder, is PREFIX + a NAME (a shell pattern), and writes them to
FOLDER under their last name alone, so that no path in the archive can lead outside it. ARCHIVE is a .tar.gz, or a .zip
under any name (a wheel); what is called NAME.zip within is one file in an archive of its own.
"""

import fnmatch
import hashlib
import os
import sys
import tarfile
import zipfile

archive, digest, folder, prefix, *names = sys.argv[1:]
with open(archive, "rb") as file:
    got = hashlib.sha256(file.read()).hexdigest()
if got != digest:
    sys.exit(f"{archive}: expected SHA-256 {digest}, got {got}")
os.makedirs(folder, exist_ok=True)


def is_wanted(path):
    inner = path.partition("/")[2]
    name = inner[len(prefix):]
    return inner.startswith(prefix) and any(fnmatch.fnmatchcase(name, n) for n in names) and "/" not in name


def write(name, source):
    with open(os.path.join(folder, os.path.basename(name)), "wb") as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)


taken = 0
if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as outer:
        for member in filter(is_wanted, outer.namelist()):
            if member.endswith(".zip"):
                with outer.open(member) as file, zipfile.ZipFile(file) as inner:
                    only = inner.infolist()[0]
                    write(member.removesuffix(".zip"), inner.open(only))
            else:
                write(member, outer.open(member))
            taken += 1
else:
    with tarfile.open(archive, "r:gz") as tar:
        for member in filter(lambda member: member.isreg() and is_wanted(member.name), tar):
            write(member.name, tar.extractfile(member))
            taken += 1
if taken == 0:
    sys.exit(f"{archive}: holds no {prefix}{' or '.join(names)}")
