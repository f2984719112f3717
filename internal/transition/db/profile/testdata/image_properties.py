"""Reads request specs by Nova's own objects, and compares their images with what Nova makes of the guests' system metadata.

stdin: a JSON document for each guest and line: {"uuid", "spec" (text), "metadata": {key: value}}.
stdout: a line for each difference, then "read N".
"""
import json
import sys
import warnings

warnings.filterwarnings("ignore")

from nova import objects, utils
from nova.objects import image_meta, request_spec

objects.register_all()


def made(metadata):
    """The image as Nova makes it, without values that it refuses and without the owner."""
    image = utils.get_image_from_system_metadata(metadata)
    for key, value in list(image["properties"].items()):
        try:
            objects.ImageMetaProps.from_dict({key: value})
        except ValueError:
            del image["properties"][key]
        if key in ("owner_id", "img_owner_id") and key in image["properties"]:
            del image["properties"][key]
    return objects.ImageMeta.from_dict(image)


def fields(obj, names):
    return {n: str(getattr(obj, n)) for n in names if obj.obj_attr_is_set(n)}


count = 0
for line in sys.stdin:
    guest = json.loads(line)
    count += 1
    spec = request_spec.RequestSpec.obj_from_primitive(json.loads(guest["spec"]))
    want = made(guest["metadata"])
    for what, got, should in (
        ("properties", spec.image.properties, want.properties),
        ("image", spec.image, want),
    ):
        names = [n for n in got.fields if n != "properties"] if what == "properties" else ["min_ram", "min_disk", "disk_format", "container_format"]
        a, b = fields(got, names), fields(should, names)
        if what == "image":  # which have values here also for guests whose image kept none
            b = {**{n: a.get(n) for n in ("min_ram", "min_disk") if n in a}, **b}
        if a != b:
            print("%s: %s: the spec has %s, Nova makes %s" % (guest["uuid"], what, a, b))
print("read %d" % count)
