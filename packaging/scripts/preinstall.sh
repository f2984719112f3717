#!/bin/sh
# Before the files of a package come. /opt is nobody's: it is made where it is not there, and never removed.
set -eu
[ -d /opt ] || mkdir -m 0755 /opt
