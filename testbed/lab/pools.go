package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Storage pools of every host with Options.Pools: libvirt pools of the kind dir
// on folders of SharedDir, defined and started with libvirtd.
const (
	SharedPool   = "shared"   // holds the disks of business guests
	TemplatePool = "template" // holds templates

	// SharedPoolDir and TemplatePoolDir are the pools' folders, the same on all hosts.
	SharedPoolDir   = SharedDir + "/pool"
	TemplatePoolDir = SharedDir + "/template"
)

const poolXML = `<pool type='dir'>
  <name>%s</name><uuid>%s</uuid>
  <source/>
  <target><path>%s</path></target>
</pool>
`

// templateName is a volume of the pool of templates.
const templateName = "template.img"

// preparePools makes the pools' folders in the shared folder, and a template.
func (p plan) preparePools() error {
	for _, dir := range []string{SharedPoolDir, TemplatePoolDir} {
		if err := os.MkdirAll(p.path("shared", filepath.Base(dir)), 0o755); err != nil {
			return fmt.Errorf("prepare storage pools: %w", err)
		}
	}
	template := p.path("shared", filepath.Base(TemplatePoolDir), templateName)
	if exists(template) {
		return nil
	}
	if err := os.WriteFile(template, make([]byte, 1<<20), 0o644); err != nil {
		return fmt.Errorf("prepare storage pools: %w", err)
	}
	return nil
}

// writePools defines a host's pools as libvirtd keeps them, once: later
// power-ons find what the host's owner made of them.
func (p plan) writePools(h string) error {
	dir := p.disk(h, "etc-libvirt", "storage")
	if exists(dir) {
		return nil
	}
	tmp := dir + ".tmp"
	err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(filepath.Join(tmp, "autostart"), 0o755))
	for i, pool := range [][2]string{{SharedPool, SharedPoolDir}, {TemplatePool, TemplatePoolDir}} {
		file := pool[0] + ".xml"
		uuid := fmt.Sprintf("5a000000-0000-4000-8000-%06d%04d%02d", p.Subnet, hostNumber(h), i+1)
		text := fmt.Sprintf(poolXML, pool[0], uuid, pool[1])
		err = errors.Join(err, os.WriteFile(filepath.Join(tmp, file), []byte(text), 0o600),
			os.Symlink("/etc/libvirt/storage/"+file, filepath.Join(tmp, "autostart", file)))
	}
	if err = errors.Join(err, os.Rename(tmp, dir)); err != nil {
		return fmt.Errorf("define storage pools: %w", err)
	}
	return nil
}
