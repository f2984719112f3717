"""Lets whoever creates an object of Neutron choose its id.

Neutron's own attribute maps refuse 'id' in a POST, while its plug-ins take the one that
they are given. This extension opens the attribute; the service plug-in below only makes
Neutron load it. README.md tells how to install it and when to take it away.
"""
from neutron_lib.api import extensions
from neutron_lib.services import base
from oslo_utils import uuidutils

ALIAS = 'holdfast-client-ids'

COLLECTIONS = ('networks', 'subnets', 'ports',
               'security_groups', 'security_group_rules')


def _chosen_or_new(value):
    return value if value else uuidutils.generate_uuid()


def _id_attribute():
    return {
        'allow_post': True,
        'allow_put': False,
        'default': None,
        'validate': {'type:uuid_or_none': None},
        'convert_to': _chosen_or_new,
        'enforce_policy': True,
        'is_visible': True,
        'is_filter': True,
        'is_sort_key': True,
        'primary_key': True,
    }


class Holdfast_client_ids(extensions.ExtensionDescriptor):
    """Neutron finds the class by the name of this file, its first letter large."""

    @classmethod
    def get_name(cls):
        return 'Ids chosen by the client'

    @classmethod
    def get_alias(cls):
        return ALIAS

    @classmethod
    def get_description(cls):
        return "Accepts 'id' when an object of the network is created"

    @classmethod
    def get_updated(cls):
        return '2026-01-01T00:00:00-00:00'

    def get_required_extensions(self):
        return ['security-group']

    def get_extended_resources(self, version):
        if version != '2.0':
            return {}
        return {name: {'id': _id_attribute()} for name in COLLECTIONS}


class ClientIdsPlugin(base.ServicePluginBase):
    """Declares the extension's alias; without a plug-in that does, Neutron drops it."""

    supported_extension_aliases = [ALIAS]

    @classmethod
    def get_plugin_type(cls):
        return 'HOLDFAST_CLIENT_IDS'

    def get_plugin_description(self):
        return 'Ids chosen by the client'
