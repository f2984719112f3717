#!/bin/bash
set +x
CURRENT_FILE_PATH=$(dirname $(readlink -f ${BASH_SOURCE[0]}))
INSTALL_PATH=/opt/engine
PRE_UPGRADE_ORDER=("cms" "engine")
STOP_ORDER=("engine" "dss" "cms")   # what uses the others comes first
UPGRADE_ORDER=("cms" "engine")
START_ORDER=("cms" "dss" "engine")
POST_UPGRADE_ORDER=("cms" "engine")
ROLLBACK_ORDER=("engine" "cms")
