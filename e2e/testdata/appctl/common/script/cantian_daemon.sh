# replaced by leaves.sh
