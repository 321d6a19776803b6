#!/bin/sh
# Stands for pip in the tests: sh pip.sh WHEELS download ... -d FOLDER name==version
# WHEELS holds name.whl, and may hold name.fail (what to print before failing), name.hang or name.slow.
# Every call is noted in WHEELS/calls.
wheels=$1
shift
while [ $# -gt 0 ]; do
    case $1 in
    -d)
        folder=$2
        shift
        ;;
    *) requirement=$1 ;;
    esac
    shift
done
name=${requirement%%==*}
echo "$requirement" >>"$wheels/calls"
if [ -e "$wheels/$name.fail" ]; then
    cat "$wheels/$name.fail" >&2
    exit 1
fi
if [ -e "$wheels/$name.hang" ]; then
    # Until whoever waits for the download, or a later pull, clears it away.
    while [ -d "$folder" ]; do sleep 0.05; done
    exit 1
fi
if [ -e "$wheels/$name.slow" ]; then
    echo "Downloading $name-1.0-py3-none-any.whl (1.5 kB)"
    head -c 500 "$wheels/$name.whl" >"$TMPDIR/$name.whl"
    sleep 0.3
fi
cp "$wheels/$name.whl" "$folder/$name-1.0-py3-none-any.whl"
