#!/bin/bash
. "$(dirname "$(readlink -f "$0")")/../common.sh"
module dss "$@"
