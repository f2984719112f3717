package check

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
)

// gib writes bytes as GiB.
func gib(b int64) string { return fmt.Sprintf("%.1f GiB", float64(b)/(1<<30)) }

// checkSpace wants what the bundle asks for, and twice the size of its files: they
// are unpacked beside the ones that they replace.
func checkSpace(s *scene) []Finding {
	var files int64
	for _, f := range s.man.Files() {
		files += f.Size
	}
	need := max(s.man.MinSpace(), 2*files)
	var fs []Finding
	s.up(func(h *inventory.Host, f *fact.Facts) {
		free, dir := h.FreeBytes, "the unpack directory"
		if f != nil {
			if nk, ok := notKnown(h.Name, f, "space", Fail); ok {
				fs = append(fs, nk)
				return
			}
			free, dir = f.Space.Free, f.Space.Dir
		} else if free == 0 {
			return // the check "facts" says that the host has told nothing
		}
		if free < need {
			fs = append(fs, onHost(h.Name, Fail, "free space on the file system of that directory",
				"%s has %s free, want %s", dir, gib(free), gib(need)))
		}
	})
	return fs
}

// checkCommands names what is missing, and how it is installed on that system.
func checkCommands(s *scene) []Finding {
	var fs []Finding
	if len(s.man.Requires.Commands) == 0 {
		return nil
	}
	s.up(func(h *inventory.Host, f *fact.Facts) {
		var system fact.OS
		has := func(c string) bool { return slices.Contains(h.Commands, c) }
		if f != nil {
			if nk, ok := notKnown(h.Name, f, "commands", Fail); ok {
				fs = append(fs, nk)
				return
			}
			system = f.OS
			has = func(c string) bool { return f.Commands[c] != "" }
		} else if h.Commands == nil {
			return
		}
		var missing, packages []string
		for _, c := range s.man.Requires.Commands {
			if !has(c) {
				missing = append(missing, c)
				packages = append(packages, packageOf(c, system))
			}
		}
		if len(missing) > 0 {
			fs = append(fs, onHost(h.Name, Fail, install(system,
				packages)+"; without a network, mount the system's ISO image as a local repository first", "commands are missing: %s", Names(missing)))
		}
	})
	return fs
}

// checkPython does the same for modules of Python.
func checkPython(s *scene) []Finding {
	if len(s.man.Requires.PythonModules) == 0 {
		return nil
	}
	var fs []Finding
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if nk, ok := notKnown(h.Name, f, "python", Fail); ok {
			fs = append(fs, nk)
			return
		}
		for _, m := range s.man.Requires.PythonModules {
			why, asked := f.Python[m]
			if !asked {
				why = "the host was not asked about it"
			}
			if why != "" {
				fs = append(fs, onHost(h.Name, Fail, installPython(f.OS, m), "Python can not import %s: %s", m, why))
			}
		}
	})
	return fs
}

// checkNeeds says what the preChecks of modules would refuse, by the same judgement: the hosts' own.
func checkNeeds(s *scene) []Finding {
	var fs []Finding
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if s.Back || slices.Contains(s.Left, h.Name) {
			return
		}
		if nk, ok := notKnown(h.Name, f, "met", Fail); ok {
			fs = append(fs, nk)
			return
		}
		for i := range s.man.Modules {
			m := &s.man.Modules[i]
			if !m.On(h) || !m.Needs() {
				continue
			}
			switch at := slices.IndexFunc(f.Met, func(x fact.Met) bool { return x.Module == m.Name }); {
			case at < 0:
				fs = append(fs, onHost(h.Name, Warn, "upgrade its agent first, or wait for the preCheck: it comes "+
					"before the first change", "does not tell whether it has what module %s needs", m.Name))
			case f.Met[at].Why != "":
				fs = append(fs, onHost(h.Name, Fail, "correct that on the host, then repeat the check",
					"module %s would be refused: %s", m.Name, f.Met[at].Why))
			}
		}
	})
	return fs
}

// family is how packages are installed on a system.
type family string

const (
	apt    family = "apt-get install"
	yum    family = "yum install"
	zypper family = "zypper install"
)

// familyOf knows the systems by what os-release says, "" when it does not.
func familyOf(o fact.OS) family {
	for _, id := range append([]string{o.ID}, o.Like...) {
		switch id {
		case "debian", "ubuntu", "uos", "deepin":
			return apt
		case "rhel", "centos", "fedora", "rocky", "almalinux", "ol", "openEuler", "openeuler", "ctyunos", "kylin", "anolis", "h3linux":
			return yum
		case "suse", "opensuse", "sles", "opensuse-leap":
			return zypper
		}
	}
	return ""
}

// packageOf names the package that has a command, where the names differ.
func packageOf(command string, o fact.OS) string {
	type names struct{ apt, other string }
	n, ok := map[string]names{
		"multipath":    {"multipath-tools", "device-mapper-multipath"},
		"iscsiadm":     {"open-iscsi", "iscsi-initiator-utils"},
		"qemu-img":     {"qemu-utils", "qemu-img"},
		"virsh":        {"libvirt-clients", "libvirt-client"},
		"python3":      {"python3", "python3"},
		"pip3":         {"python3-pip", "python3-pip"},
		"chronyc":      {"chrony", "chrony"},
		"mysqldump":    {"default-mysql-client", "mysql"},
		"mariabackup":  {"mariadb-backup", "mariadb-backup"},
		"ifconfig":     {"net-tools", "net-tools"},
		"netstat":      {"net-tools", "net-tools"},
		"ip":           {"iproute2", "iproute"},
		"lvs":          {"lvm2", "lvm2"},
		"ssh":          {"openssh-client", "openssh-clients"},
		"dig":          {"dnsutils", "bind-utils"},
		"ping":         {"iputils-ping", "iputils"},
		"mkfs.ocfs2":   {"ocfs2-tools", "ocfs2-tools"},
		"ncat":         {"ncat", "nmap-ncat"},
		"killall":      {"psmisc", "psmisc"},
		"pgrep":        {"procps", "procps-ng"},
		"ps":           {"procps", "procps-ng"},
		"mount.nfs":    {"nfs-common", "nfs-utils"},
		"lsscsi":       {"lsscsi", "lsscsi"},
		"sg_inq":       {"sg3-utils", "sg3_utils"},
		"zstd":         {"zstd", "zstd"},
		"mariadb-dump": {"mariadb-client", "mariadb"},
	}[command]
	switch {
	case !ok:
		return command
	case familyOf(o) == apt:
		return n.apt
	default:
		return n.other
	}
}

func install(o fact.OS, packages []string) string {
	slices.Sort(packages)
	list := strings.Join(slices.Compact(packages), " ")
	if f := familyOf(o); f != "" {
		return string(f) + " " + list
	}
	return "install " + list + " with the system's package manager"
}

// installPython gives the ways to a module; its package may have another name.
func installPython(o fact.OS, module string) string {
	top, _, _ := strings.Cut(module, ".")
	pip, system := top, strings.ToLower(strings.ReplaceAll(top, "_", "-"))
	other, ok := map[string][2]string{
		"yaml":     {"PyYAML", "yaml"},
		"Crypto":   {"pycryptodome", "pycryptodome"},
		"OpenSSL":  {"pyOpenSSL", "openssl"},
		"MySQLdb":  {"mysqlclient", "mysqldb"},
		"dateutil": {"python-dateutil", "dateutil"},
		"bs4":      {"beautifulsoup4", "bs4"},
	}[top]
	if ok {
		pip, system = other[0], other[1]
	}
	way := "pip3 install " + pip
	if f := familyOf(o); f != "" {
		way += fmt.Sprintf(", or %s python3-%s", f, system)
	}
	return way + "; without a network, download the module and those it needs elsewhere and give their files to pip3"
}
