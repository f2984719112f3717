package lab

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// bareFiles stand for systemd on hosts that are bare.
//
//go:embed bare
var bareFiles embed.FS

// BarePassword is root's on bare hosts that the command makes.
const BarePassword = "holdfast"

const sshd = "/usr/sbin/sshd"

// sshdConfig is that of bare hosts: root may log in by password.
const sshdConfig = `Port 22
HostKey /srv/host/ssh_host_ed25519_key
PermitRootLogin yes
PasswordAuthentication yes
UsePAM no
PidFile none
`

// bareDaemons are what bare hosts run beside libvirt.
func bareDaemons() []Daemon {
	return []Daemon{
		{Name: "sshd", Argv: []string{"/bin/sh", "-c",
			"mkdir -p /run/sshd; exec " + sshd + " -D -e -f " + HostDir + "/sshd_config"}, Restart: true},
		{Name: "units", Argv: []string{"/bin/sh", HostDir + "/units.sh"}, Restart: true},
	}
}

// bare gives options what bare hosts need.
func (o Options) bare() (Options, error) {
	if o.Bare == "" {
		return o, nil
	}
	if o.Agents {
		return o, fail.Errorf(fail.Invalid, "--bare: not with --agents, which are installed already")
	}
	if _, err := exec.LookPath(sshd); err != nil {
		return o, fail.Errorf(fail.Invalid, "--bare: %w", err).With("install openssh-server")
	}
	o.Watchdogs, o.OwnSystem = true, true
	return o, nil
}

// furnish gives all hosts what an installation over SSH finds on real ones, and has it find what it reads in the folder
// HostDir of each: cluster.json, settings.json, hosts.keys and password.
func (l *Lab) furnish(ctx context.Context, password string) error {
	var known strings.Builder
	for _, h := range l.Hosts() {
		key, err := l.furnishHost(ctx, h, password)
		if err != nil {
			return fmt.Errorf("furnish %s: %w", h, err)
		}
		fmt.Fprintf(&known, "%s %s", l.Addr(h), key)
	}
	for _, h := range l.Hosts() {
		err := errors.Join(
			os.WriteFile(l.HostPath(h, "hosts.keys"), []byte(known.String()), 0o600),
			os.WriteFile(l.HostPath(h, "password"), []byte(password+"\n"), 0o600),
			writeJSON(l.HostPath(h, "cluster.json"), l.BareCluster()),
			writeJSON(l.HostPath(h, "settings.json"), BareSettings()),
		)
		if err != nil {
			return fmt.Errorf("furnish %s: %w", h, err)
		}
	}
	return poll(ctx, patience, "sshd on all hosts", func() (bool, error) {
		for _, h := range l.Hosts() {
			c, err := l.Dial(ctx, "tcp", net.JoinHostPort(l.Addr(h).String(), "22"))
			if err != nil {
				return false, nil // it is being started
			}
			if err := c.Close(); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// furnishHost returns the host's key as known_hosts has it.
func (l *Lab) furnishHost(ctx context.Context, h, password string) (key string, err error) {
	for _, name := range []string{"systemctl", "units.sh"} {
		text, err := bareFiles.ReadFile("bare/" + name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(l.HostPath(h, name), text, 0o755); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(l.HostPath(h, "password"), []byte("root:"+password+"\n"), 0o600); err != nil {
		return "", err
	}
	key, err = l.Exec(ctx, h, "/bin/sh", "-c", `set -e
cd `+HostDir+`
cp systemctl /usr/bin/systemctl
chpasswd <password
[ -e ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N "" -f ssh_host_ed25519_key
cat ssh_host_ed25519_key.pub`)
	if err != nil {
		return "", err
	}
	return key, os.WriteFile(l.HostPath(h, "sshd_config"), []byte(sshdConfig), 0o600)
}

// BareCluster is a configuration of the first three hosts, or of two, with the laboratory's guest as the management VM.
func (l *Lab) BareCluster() config.Cluster {
	cl := l.p.cluster(Options{})
	cl.Node, cl.Fencing.Hosts = nil, map[string]config.HostFencing{}
	hosts := l.Hosts()
	for _, h := range hosts[:min(3, len(hosts))] {
		cl.Node = append(cl.Node, l.Addr(h).String()+" "+h)
		f := config.HostFencing{Watchdog: WatchdogDevice(h)}
		if len(hosts) == 2 {
			f.Devices = []config.FenceDevice{l.FenceDevice(h)}
		}
		cl.Fencing.Hosts[h] = f
	}
	return cl
}

// BareSettings are what all agents of bare hosts have in common.
func BareSettings() config.Node {
	return config.Node{
		Machine: MachineUUID, Undersized: true,
		Libvirt: config.Libvirt{MigrateURI: "qemu+tcp://%s/system", Shared: []string{SharedDir}},
	}
}
