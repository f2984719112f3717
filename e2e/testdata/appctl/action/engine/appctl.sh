#!/bin/bash
. "$(dirname "$(readlink -f "$0")")/../common.sh"
[ "$1" != upgrade ] || ask_password
module engine "$@"
