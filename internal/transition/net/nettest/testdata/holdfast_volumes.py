"""A driver of Cinder whose volumes are rows only, for tests."""
from cinder.volume import driver


class Driver(driver.VolumeDriver):
    VERSION = '1'

    def do_setup(self, context): pass
    def check_for_setup_error(self): pass
    def create_volume(self, volume): pass
    def delete_volume(self, volume): pass
    def ensure_export(self, context, volume): pass
    def create_export(self, context, volume, connector): pass
    def remove_export(self, context, volume): pass
    def initialize_connection(self, volume, connector): return {'driver_volume_type': 'fake', 'data': {}}
    def terminate_connection(self, volume, connector, **kwargs): pass

    def _update_volume_stats(self):
        pool = {'pool_name': 'fake', 'total_capacity_gb': 100, 'free_capacity_gb': 100, 'reserved_percentage': 0}
        self._stats = {'volume_backend_name': 'fake', 'vendor_name': 'none', 'driver_version': '1', 'storage_protocol': 'fake', 'pools': [pool]}
