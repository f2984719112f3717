#!/bin/bash
INSTALL_PATH=/opt/cantian

cantian_user="cantian"
cantian_group="cantian"

START_ORDER=("cms" "cantian" "ct_om" "cantian_exporter" "logicrep")
STOP_ORDER=("logicrep" "cms" "cantian" "ct_om" "cantian_exporter")
UPGRADE_ORDER=("ct_om" "cantian_exporter" "dbstor" "cms" "cantian")
