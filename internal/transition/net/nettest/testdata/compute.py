"""nova-compute without a hypervisor, for tests: Nova's own fake driver, and what that leaves out."""
import base64
import io
import os
import subprocess
import sys

from nova.cmd import compute  # before all else: it patches what eventlet wants patched
from nova import conf
from nova.compute import power_state
from nova.image import glance
from nova.virt import fake


class Driver(fake.FakeDriver):
    """Knows a guest only on the host to which it was migrated live, puts something into images, and runs user data."""

    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations, network_info=None, **more):
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info, **more)
        if not instance.user_data:
            return
        script = self.path(instance, 'script')
        with open(script, 'wb') as f:
            f.write(base64.b64decode(instance.user_data))
        open(self.path(instance, 'console'), 'w').close()
        lacks = {}
        for what in ('dhcp', 'metadata'):  # what a test has broken
            lacks[what] = os.path.exists(os.path.join(os.path.dirname(CONF.state_path), 'no-' + what))
        address = '' if lacks['dhcp'] else network_info[0].fixed_ips()[0]['address']
        url = '' if lacks['metadata'] else f'http://{CONF.metadata_listen}:{CONF.metadata_listen_port}'
        subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), 'guest.py'), script, self.path(instance, 'console'),
                          address, url, CONF.neutron.metadata_proxy_shared_secret, instance.uuid, instance.project_id])

    def path(self, instance, what):
        return os.path.join(CONF.state_path, f'{instance.uuid}.{what}')

    def get_console_output(self, context, instance):
        with open(self.path(instance, 'console'), 'rb') as f:
            return f.read()

    def pre_live_migration(self, context, instance, block_device_info, network_info, disk_info, migrate_data):
        self.instances[instance.uuid] = fake.FakeInstance(instance.name, power_state.RUNNING, instance.uuid)
        return migrate_data

    def post_live_migration(self, context, instance, block_device_info, migrate_data=None):
        self.instances.pop(instance.uuid, None)

    def snapshot(self, context, instance, image_id, update_task_state):
        super().snapshot(context, instance, image_id, update_task_state)
        image = glance.API().get(context, image_id)
        image.update(container_format='bare', disk_format='raw', status='active')
        glance.API().update(context, image_id, image, data=io.BytesIO(b'x' * 65536), purge_props=False)


CONF = conf.CONF
fake.Driver = Driver
compute.main()
