package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	"holdfast/internal/pair/group"
)

// Names of what stands below the group of a pair on a device.
const (
	deviceName   = "holdfast" // of DRBD's resource
	mountName    = "file system"
	databaseName = "database"
)

// onDevice is a copy that is a DRBD device, and the members of the group above the file system and the
// database on it, which come first.
func (p *Part) onDevice(peer string, members []group.Member) (data group.Data, services []group.Member, err error) {
	d := p.cfg.Database
	drv, err := p.drbd(peer)
	if err != nil {
		return nil, nil, err
	}
	mount := p.mountOf(drv)
	data = &group.Device{DB: drv, Dir: p.dir(), Mount: mount, Make: func(ctx context.Context) error { return p.makeFiles(ctx, mount) }}
	if err := os.MkdirAll(p.dir(), 0o700); err != nil {
		return nil, nil, err
	}
	if err := durable.MakeDirs(mount.Dir, 0o755); err != nil {
		return nil, nil, p.bad("Pair.Device.Mount", mount.Dir, err)
	}
	if err := home(filepath.Dir(d.Socket), d.User); err != nil {
		return nil, nil, p.bad("Pair.Database.Socket", d.Socket, err)
	}
	p.first = p.below(mount)
	return data, above(members, mount), nil
}

// above are members that may have files on a mount; an address has none.
func above(members []group.Member, mount *group.Mount) (out []group.Member) {
	for _, m := range members {
		if _, ok := m.(*group.Address); !ok {
			m = &group.OnMount{Member: m, Mount: mount}
		}
		out = append(out, m)
	}
	return out
}

// drbd is the driver of this node's device.
func (p *Part) drbd(peer string) (*drbd.Driver, error) {
	d := p.cfg.Device
	secret := ""
	if file := d.SecretFile(); file != "" {
		var err error
		if secret, err = durable.ReadSecret(file); err != nil {
			return nil, fmt.Errorf("Pair.Device.Credential: %w", err)
		}
	}
	return p.resource("Pair.Device", peer, drbd.Config{Resource: deviceName, Minor: d.Minor, Disk: d.Disk, Secret: secret}, d.Port)
}

// resource fills in what is the same of all devices of this node; at is the field of the configuration.
func (p *Part) resource(at, peer string, cfg drbd.Config, port int) (*drbd.Driver, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	if p.Node.Host != host {
		return nil, p.bad("host", p.Node.Host, fmt.Errorf(at+": want the host's own name, %s (uname -n): DRBD tells the nodes apart by it", host))
	}
	exe := p.Exe
	if exe == "" { // this is no agent
		if exe, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	if cfg.Self, err = p.end(p.Node.Host, port); err != nil {
		return nil, err
	}
	if cfg.Peer, err = p.end(peer, port); err != nil {
		return nil, err
	}
	cfg.Handler, cfg.RunDir = []string{exe, "drbd-fence", p.Node.RunDir}, p.Node.RunDir
	return drbd.New(cfg)
}

// end is a node as DRBD knows it.
func (p *Part) end(host string, port int) (drbd.Node, error) {
	own, _ := p.Cluster.Member(cluster.HostID(host))
	a, err := netip.ParseAddr(p.cfg.CopyAddr(host, own))
	if err != nil {
		return drbd.Node{}, fail.Errorf(fail.Invalid, "the address of %s for the copy: %w", host, err)
	}
	return drbd.Node{Name: host, Addr: netip.AddrPortFrom(a, uint16(port))}, nil
}

// mountOf is the file system of the group on the DRBD device, which holds writes back.
func (p *Part) mountOf(drv *drbd.Driver) *group.Mount {
	d := p.cfg.Device
	return held(&group.Mount{Name: mountName, Restarts: deviceRestarts, Device: drv.Device(), Dir: d.Mount, Type: d.FileSystem}, drv)
}

// held is a file system on a DRBD device, which holds writes back.
func held(mount *group.Mount, drv *drbd.Driver) *group.Mount {
	mount.Thaw, mount.Frozen, mount.Hold = drv.Thaw, drv.Frozen, drv.Hold
	return mount
}

// below is what the group stands on: the file system and the database.
func (p *Part) below(mount *group.Mount) []group.Member {
	server := &group.Server{Name: databaseName, Restarts: deviceRestarts, Cmd: p.server(), Socket: p.cfg.Database.Socket}
	return []group.Member{mount, &group.OnMount{Member: server, Mount: mount}}
}

// deviceRestarts is how often the file system and the database are started anew on one node in
// ten minutes, as a database that is replicated by itself.
const deviceRestarts = 1

// makeFiles makes the file system, and an empty database on it.
func (p *Part) makeFiles(ctx context.Context, mount *group.Mount) (err error) {
	d := p.cfg.Database
	if err := tool(ctx, "mkfs."+mount.Type, forced(mount.Type), mount.Device); err != nil {
		return err
	}
	if err := mount.Start(ctx); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, mount.Stop(ctx, false))
	}()
	c, err := mariadb.Credential(d.User)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Datadir, 0o700); err != nil {
		return err
	}
	if err := os.Chown(d.Datadir, int(c.Uid), int(c.Gid)); err != nil {
		return err
	}
	return tool(ctx, "mariadb-install-db", "--no-defaults", "--user="+d.User, "--datadir="+d.Datadir, "--skip-test-db",
		"--auth-root-authentication-method=socket")
}

// forced has a program make a file system although there is one: an earlier call was cut short.
func forced(fs string) string {
	if fs == "xfs" {
		return "-f"
	}
	return "-F"
}

// tool runs a program, which is less urgent than this process; its error has what it said last.
func tool(ctx context.Context, name string, args ...string) error {
	cmd := proc.Foreign(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	err := cmd.Start()
	if err == nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, 0) // it may have ended
		err = cmd.Wait()
	}
	if err != nil {
		said := strings.TrimSpace(out.String())
		return fmt.Errorf("%s: %w: %s", name, err, said[max(0, len(said)-300):])
	}
	return nil
}
