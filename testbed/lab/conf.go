package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// writeDisk makes the host's persistent folder and the files that are the same
// at every power-on. Idempotent.
func (p plan) writeDisk(h string, o Options) error {
	for _, d := range []string{"etc-libvirt/qemu", "etc-libvirt/" + memoryDir, "var-lib-libvirt", "var-cache-libvirt",
		"var-log-libvirt/qemu", "srv/log", "srv/data"} {
		if err := os.MkdirAll(p.disk(h, d), 0o755); err != nil {
			return fmt.Errorf("make disk of host: %w", err)
		}
	}
	if err := p.giveProbed(o.Cache, h); err != nil {
		return err
	}
	files := map[string]string{
		"etc-libvirt/libvirtd.conf": p.libvirtdConf(h),
		"etc-libvirt/qemu.conf":     p.qemuConf(h),
		"etc-libvirt/libvirt.conf":  "",
		"etc-libvirt/virtlogd.conf": "",
		"hosts":                     p.etcHosts(),
		"srv/machine-uuid":          p.hostUUID(h) + "\n",
	}
	if o.Locks {
		files["etc-libvirt/qemu.conf"] += "lock_manager = \"lockd\"\n"
		files["etc-libvirt/qemu-lockd.conf"] = "file_lockspace_dir = \"" + Lockspace + "\"\n"
		files["etc-libvirt/virtlockd.conf"] = ""
	}
	var err error
	for name, text := range files {
		if exists(p.disk(h, name)) {
			continue // the host's owner may have changed it
		}
		err = errors.Join(err, os.WriteFile(p.disk(h, name), []byte(text), 0o644))
	}
	if err != nil {
		return fmt.Errorf("write settings of host: %w", err)
	}
	if o.Pools {
		return p.writePools(h)
	}
	return nil
}

// libvirtdConf opens libvirtd to the laboratory's own network, which has no
// uplink. A peer that is gone is noticed after 2 s x 3.
func (p plan) libvirtdConf(h string) string {
	return fmt.Sprintf(`listen_tls = 0
listen_tcp = 1
listen_addr = "0.0.0.0"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0770"
host_uuid = "%s"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
keepalive_interval = 2
keepalive_count = 3
`, p.hostUUID(h))
}

// qemuConf keeps libvirt away from what a namespace does not have: control
// groups, security labels, other users.
func (p plan) qemuConf(h string) string {
	return fmt.Sprintf(`security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "logd"
default_tls_x509_cert_dir = "/etc/libvirt/%s"
migration_address = "0.0.0.0"
migration_host = "%s"
migration_port_min = 49152
migration_port_max = 49215
keepalive_interval = 2
keepalive_count = 3
`, memoryDir, p.hostAddr(h))
}

func (p plan) etcHosts() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	fmt.Fprintf(&b, "%s switch\n%s guest\n", p.switchAddr(), p.guestAddr())
	for _, h := range p.hosts() {
		fmt.Fprintf(&b, "%s %s\n", p.hostAddr(h), h)
	}
	return b.String()
}
