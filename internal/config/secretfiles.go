package config

import (
	"path/filepath"
	"slices"
)

// SecretFiles are the files of a host that have secrets: those that its agent's settings name, which are in file, and those
// of other programs. Root is where the host's files are.
func (n Node) SecretFiles(file, root string) []string {
	paths := []string{n.TLS.Key, n.Upgrade.CredentialsFile}
	if o := n.Console.OIDC; o != nil {
		paths = append(paths, o.SecretFile)
	}
	if t := n.Traces; t != nil {
		paths = append(paths, t.TokenFile)
	}
	patterns := []string{filepath.Join(filepath.Dir(file), "pki", "*.key")}
	for _, p := range []string{"/etc/holdfast/pki/*.key", "/etc/pki/libvirt/private/*", "/etc/pki/qemu/*key*",
		"/etc/ceph/*.keyring", "/etc/libvirt/secrets/*.base64", "/etc/openipmi/*", "/root/.my.cnf", "/etc/mysql/debian.cnf"} {
		patterns = append(patterns, filepath.Join(root, p))
	}
	for _, p := range patterns {
		if found, err := filepath.Glob(p); err == nil { // it is a pattern, of these
			paths = append(paths, found...)
		}
	}
	slices.Sort(paths)
	return slices.DeleteFunc(slices.Compact(paths), func(p string) bool { return p == "" })
}
