"""A DHCP agent of Neutron that starts on a host: python3 dhcp_agent.py HOST --config-file FILE ...

The code that chooses ports is that of Neutron's agent, and the code that answers it is that of neutron-server; only the
message bus between them is left out. Nothing is put on this machine. Prints the ports that the agent has then, as JSON.
"""
import json
import sys

from neutron.agent.linux import dhcp
from neutron.api import extensions
from neutron.api.rpc.handlers import dhcp_rpc
from neutron.common import config
from neutron_lib.api import attributes
from neutron_lib import context
from neutron_lib.plugins import directory
from neutron import manager
from oslo_config import cfg

host = sys.argv[1]
config.register_common_config_options()
config.init(sys.argv[2:])
cfg.CONF.set_override('host', host)
config.set_config_defaults()
manager.init()
extensions.PluginAwareExtensionManager.get_instance().extend_resources('2.0', attributes.RESOURCES)
ctx = context.get_admin_context()
server = dhcp_rpc.DhcpRpcCallback()

ovs = {'bridge_mappings': {'physnet1': 'br-ex'}, 'tunnel_types': ['vxlan'], 'tunneling_ip': '10.9.0.99', 'datapath_type': 'system',
       'ovs_hybrid_plug': False, 'integration_bridge': 'br-int', 'ovs_capabilities': {'datapath_types': ['system'], 'iface_types': ['tap']}}
for kind, binary, topic, says in (('Open vSwitch agent', 'neutron-openvswitch-agent', 'N/A', ovs), ('DHCP agent', 'neutron-dhcp-agent', 'dhcp_agent', {})):
    directory.get_plugin().create_or_update_agent(ctx, {'agent_type': kind, 'binary': binary, 'topic': topic, 'host': host, 'configurations': says})


class Bus:
    """What the agent asks of the server, without a message bus (DhcpPluginApi of neutron/agent/dhcp/agent.py)."""

    def update_dhcp_port(self, port_id, port):
        port = server.update_dhcp_port(ctx, host=host, port_id=port_id, port=port)
        return dhcp.DictModel(port) if port else None

    def create_dhcp_port(self, port):
        port = server.create_dhcp_port(ctx, host=host, port=port)
        return dhcp.DictModel(port) if port else None

    def get_dhcp_port(self, port_id):
        return dhcp.DictModel(server.get_dhcp_port(ctx, host=host, port_id=port_id))


class Driver:
    use_gateway_ips = False


agent = dhcp.DeviceManager.__new__(dhcp.DeviceManager)
agent.conf, agent.plugin, agent.driver = cfg.CONF, Bus(), Driver()
out = []
for network in server.get_active_networks_info(ctx, host=host):
    port = agent.setup_dhcp_port(dhcp.NetModel(network))
    out.append({'id': port.id, 'network_id': network['id'], 'mac_address': port.mac_address, 'ips': [ip.ip_address for ip in port.fixed_ips]})
json.dump(out, sys.stdout)
