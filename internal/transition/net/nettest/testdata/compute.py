"""nova-compute without a hypervisor, for tests: Nova's own fake driver, and what that leaves out."""
import io

from nova.cmd import compute  # before all else: it patches what eventlet wants patched
from nova.compute import power_state
from nova.image import glance
from nova.virt import fake


class Driver(fake.FakeDriver):
    """Knows a guest only on the host to which it was migrated live, and puts something into images."""

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


fake.Driver = Driver
compute.main()
