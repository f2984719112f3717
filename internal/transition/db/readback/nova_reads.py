#!/usr/bin/python3
"""Reads what is in Nova's databases by Nova's own objects, and tells it as JSON.

nova_reads.py NOVA.CONF [--without=TABLE...] [--all | UUID...]

Of guests it reads those that are named, or all; when none is, it reads the hosts' PCI devices instead. Nothing is written: sessions are read
only, and what Nova would mend as it reads is left. What hangs on a TABLE (nova_api.host_mappings, nova.compute_nodes) is not asked. "faults" has what can not be read, or is wrong although
Nova reads it; the program's end is 1 when there are any. Which database a guest is read from is told by its cell; "servers" are all that
were asked, as they call themselves, and "databases" theirs.
"""
import sys

sys.path = [p for p in sys.path if p]  # nothing of the directory in which it is called

import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import warnings  # noqa: E402

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
warnings.simplefilter("ignore")
logging.disable(logging.ERROR)

import sqlalchemy  # noqa: E402
from nova import config, context, exception, objects  # noqa: E402
from nova.compute import vm_states  # noqa: E402
from nova.db.api import api as api_db  # noqa: E402
from nova.db.main import api as main_db  # noqa: E402
from nova.objects import service as service_object  # noqa: E402
from oslo_db import exception as db_exception  # noqa: E402
from oslo_serialization import jsonutils  # noqa: E402

ASKED = {"servers": set(), "databases": set()}


@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "connect")
def connected(connection, _record):
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION READ ONLY")
    cursor.execute("SELECT CONCAT(@@hostname, ':', @@port), DATABASE()")
    server, database = cursor.fetchone()
    ASKED["servers"].add(server)
    ASKED["databases"].add(database)
    cursor.close()


def nothing(*_args, **_kwargs):
    """Stands for what Nova writes as it reads: ratios of hosts, older forms of NUMA cells and request specs."""


# All that an instance has beside its own row.
ATTRIBUTES = [
    "flavor", "metadata", "system_metadata", "info_cache", "pci_requests", "numa_topology", "vcpu_model",
    "keypairs", "services", "pci_devices", "tags", "migration_context", "device_metadata",
]


class Reader:
    """Collects what it reads, and what goes wrong."""

    def __init__(self, without):
        self.faults = []
        self.without = without
        self.admin = context.get_admin_context()

    def wrong(self, where, what):
        self.faults.append("%s: %s" % (where, what))

    def read(self, where, what):
        """Runs what; an exception of Nova's is a fault, and None the answer. Without a database there is nothing to be read."""
        try:
            return what()
        except db_exception.DBConnectionError:
            raise
        except Exception as e:  # whatever Nova raises is what is asked for
            self.wrong(where, "%s: %.300s" % (type(e).__name__, e))
            return None

    def everything(self, every, only):
        self.flavors = {f.flavorid: f for f in self.read("flavors", lambda: objects.FlavorList.get_all(self.admin)) or []}
        self.hosts = {h.host for h in self.read("host mappings", lambda: objects.HostMappingList.get_all(self.admin)) or []}
        aggregates = self.read("aggregates", lambda: objects.AggregateList.get_all(self.admin)) or []
        self.nodes, services = set(), []
        mappings = []
        for cell in self.read("cells", lambda: objects.CellMappingList.get_all(self.admin)) or []:
            if every:
                mappings += self.read("mappings", lambda: list(objects.InstanceMappingList.get_by_cell_id(self.admin, cell.id))) or []
            with context.target_cell(self.admin, cell) as target:
                for n in self.read("compute nodes", lambda: objects.ComputeNodeList.get_all(target)) or []:
                    self.nodes.add((n.host, n.hypervisor_hostname))
                    if not every and not only:
                        self.read("PCI devices of " + str(n.host), lambda: objects.PciDeviceList.get_by_compute_node(target, n.id))
                services += self.read("services", lambda: list(objects.ServiceList.get_all(target))) or []
                if every:
                    self.unmapped(target, {m.instance_uuid for m in mappings})
        for uuid in only:
            mapping = self.read(uuid, lambda: objects.InstanceMapping.get_by_instance_uuid(self.admin, uuid))
            mappings += [mapping] if mapping else []
        for s in services:
            self.service(s)
        return {
            "guests": {m.instance_uuid: self.read(m.instance_uuid, lambda: self.server(m)) for m in mappings},
            "flavors": {f.flavorid: {"id": f.id, "name": f.name, "extra_specs": f.extra_specs, "projects": f.projects} for f in self.flavors.values()},
            "aggregates": {a.name: {"uuid": a.uuid, "hosts": a.hosts, "metadata": a.metadata} for a in aggregates},
            "hosts": sorted(self.hosts),
            "nodes": sorted(self.nodes),
            "services": [(s.host, s.binary, s.version, s.uuid) for s in services],
            "faults": self.faults,
            "servers": sorted(ASKED["servers"]),
            "databases": sorted(ASKED["databases"]),
        }

    def unmapped(self, target, known):
        """Guests that are in the cell, and that the API does not know of."""
        for i in self.read("instances", lambda: objects.InstanceList.get_all(target)) or []:
            if i.uuid not in known:
                self.wrong(i.uuid, "no mapping")

    def service(self, s):
        oldest = service_object.SERVICE_VERSION_ALIASES[service_object.OLDEST_SUPPORTED_SERVICE_VERSION]
        if s.binary == "nova-compute" and s.version < oldest:
            self.wrong("service of " + s.host, "version %s: Nova wants %s" % (s.version, oldest))

    def server(self, mapping):
        uuid = mapping.instance_uuid
        with context.target_cell(self.admin, mapping.cell_mapping) as target:
            target.read_deleted = "yes" if self.is_deleted(target, uuid) else "no"
            i = self.read(uuid, lambda: objects.Instance.get_by_uuid(target, uuid, expected_attrs=ATTRIBUTES))
            if i is None:
                return None
            if target.read_deleted == "yes" and not i.deleted:
                self.wrong(uuid, "deleted is neither 0 nor its id")
            # Objects of block devices without one would write a uuid.
            whole = all(d.uuid for d in main_db.block_device_mapping_get_all_by_instance(target, uuid))
            if not whole:
                self.wrong(uuid, "block device without uuid")
            out = self.read(uuid, lambda: self.instance(target, mapping, i, whole))
            if not i.deleted:
                self.alive(uuid, target, mapping, i)
                out = dict(out or {}, spec=self.read(uuid + " request spec", lambda: self.spec(uuid, i)))
            return out

    @staticmethod
    def is_deleted(target, uuid):
        try:
            objects.Instance.get_by_uuid(target, uuid, expected_attrs=[])
        except exception.InstanceNotFound:
            return True
        return False

    def instance(self, target, mapping, i, whole):
        devices = objects.BlockDeviceMappingList.get_by_instance_uuid(target, i.uuid) if whole else []
        for d in devices:
            if d.connection_info:
                json.loads(d.connection_info)
        jsonutils.dumps(i.obj_to_primitive())  # as it travels between services
        return {
            "id": i.id, "name": i.display_name, "state": i.vm_state, "host": i.host, "node": i.node, "zone": i.availability_zone,
            "project": i.project_id, "user": i.user_id, "mapping": [mapping.project_id, mapping.user_id, mapping.queued_for_delete],
            "deleted": bool(i.deleted), "flavor": i.flavor.flavorid, "extra_specs": i.flavor.extra_specs, "metadata": i.metadata, "system_metadata": i.system_metadata,
            "keypairs": [k.name for k in i.keypairs], "disk_format": i.image_meta.disk_format if "disk_format" in i.image_meta else None,
            "ports": [[v["id"], v["address"], [ip["address"] for s in v["network"]["subnets"] for ip in s["ips"]]] for v in i.get_network_info() or []],
            "devices": [[d.device_name, d.destination_type, d.volume_id, d.boot_index, d.uuid] for d in devices], "tags": sorted(t.tag for t in i.tags),
            "cells": self.cells(i.uuid, i.numa_topology),
        }

    def cells(self, where, topology):
        """The CPUs of each NUMA cell, and its policy. Pins are not counted where the policy does not say dedicated."""
        out = []
        for c in topology.cells if topology else []:
            if c.cpu_pinning_raw is not None and c.cpu_policy != "dedicated":
                self.wrong(where, "pinned CPUs of the policy %s" % c.cpu_policy)
            out.append([len(c.total_cpus), c.cpu_policy])
        return out

    def alive(self, uuid, target, mapping, i):
        """What Nova reads without complaint, and is wrong."""
        if mapping.queued_for_delete != (i.vm_state == vm_states.SOFT_DELETED):
            self.wrong(uuid, "queued_for_delete %s" % mapping.queued_for_delete)
        if (mapping.project_id, mapping.user_id) != (i.project_id, i.user_id):
            self.wrong(uuid, "mapping of %s, %s" % (mapping.project_id, mapping.user_id))
        if i.hidden:
            self.wrong(uuid, "hidden")
        if i.info_cache is None:
            self.wrong(uuid, "no info cache")
        if i.host and "nova_api.host_mappings" not in self.without and i.host not in self.hosts:
            self.wrong(uuid, "host %s has no mapping" % i.host)
        if i.host and "nova.compute_nodes" not in self.without and (i.host, i.node) not in self.nodes:
            self.wrong(uuid, "no compute node %s of %s" % (i.node, i.host))

    def spec(self, uuid, i):
        s = objects.RequestSpec.get_by_instance_uuid(self.admin, uuid)
        if (s.project_id, s.user_id, s.flavor.flavorid) != (i.project_id, i.user_id, i.flavor.flavorid):
            self.wrong(uuid, "request spec of %s, %s, %s" % (s.project_id, s.user_id, s.flavor.flavorid))
        if s.is_bfv is None:
            self.wrong(uuid, "is_bfv is not said")
        return {
            "pci": [[r.count, r.alias_name] for r in s.pci_requests.requests], "cells": self.cells(uuid + " request spec", s.numa_topology),
            "is_bfv": s.is_bfv, "zone": s.availability_zone, "vcpus": s.flavor.vcpus, "image": s.image.id if "id" in s.image else None,
            "group": s.instance_group.name if s.instance_group else None, "policy": s.instance_group.policy if s.instance_group else None,
        }


def main():
    config.parse_args(["nova_reads", "--config-file", sys.argv[1]], configure_db=False)
    for group in ("database", "api_database"):
        config.CONF.set_override("max_retries", 1, group)
        config.CONF.set_override("retry_interval", 1, group)
    main_db.configure(config.CONF)
    api_db.configure(config.CONF)
    objects.register_all()
    main_db.compute_node_update = nothing
    main_db.instance_extra_update_by_uuid = nothing
    objects.RequestSpec.save = nothing
    flags = [a for a in sys.argv[2:] if a.startswith("--")]
    reader = Reader([f.split("=", 1)[1] for f in flags if f.startswith("--without=")])
    out = reader.everything("--all" in flags, [a for a in sys.argv[2:] if a not in flags])
    json.dump(out, sys.stdout, default=str)
    sys.exit(1 if reader.faults else 0)


main()
