"""Tells which image properties Nova's own objects can not read.

stdout: a JSON list of [key, value, whether it is read]: each property that Nova has, with the values of all properties, in capitals
and with a blank after them, too, and with numbers of many forms.
"""
import json
import sys
import warnings

warnings.filterwarnings("ignore")

from nova import objects, utils

objects.register_all()

PROPERTIES = objects.ImageMetaProps
KEYS = sorted(set(PROPERTIES.fields) | set(PROPERTIES._legacy_property_map) | {"vmware_adaptertype", "min_ram", "min_disk", "disk_format", "hw_numa_mem.0", "hw_numa_cpus.0", "of_our_own"})
VALUES = {"", "x", "abc", "2", " 2 ", "2.5", "+2", "-1", "0x2", "1_0", "1__0", "0-3", "0-3,^1", "3,", "3-", "^1", "true", "maybe", ">=2.6", ">= 2.6,<3.0", ">=2", "2.6", "amd64", "i386", "x86_32", "xapi", "pv", "hv", "baremetal",
          "lsilogicsas", "paravirtual", "virtuale1000", "freebsd", "powervm"}
for field in PROPERTIES.fields.values():
    VALUES.update(getattr(field._type, "_valid_values", ()) or ())
VALUES |= {v.upper() for v in VALUES} | {v + " " for v in VALUES}


def read(key, value):
    try:
        objects.ImageMeta.from_dict(utils.get_image_from_system_metadata({key: value}))
    except Exception:  # whatever Nova raises is what is asked for
        return False
    return True


json.dump([[prefix + k, v, read(prefix + k, v)] for prefix, values in (("image_", VALUES), ("", {"x", "2"})) for k in KEYS for v in sorted(values)], sys.stdout)
