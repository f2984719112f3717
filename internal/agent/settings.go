package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install/certificates"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/pki"
)

// maxSocket is the longest path of a unix socket in bytes (unix(7): 108 with
// the closing zero).
const maxSocket = 107

// CheckNode checks the settings of a host as the agent does before it begins,
// and changes nothing.
func CheckNode(opt Options) error {
	nd, err := load(opt)
	if err != nil {
		return err
	}
	return nd.checkDataDir()
}

// checkDataDir finds out what the start would: whose the data directory is, and
// whether it can be written or made.
func (nd *node) checkDataDir() error {
	owner, err := durable.ReadOnce(filepath.Join(nd.n.DataDir, clusterFile))
	if err == nil {
		return nd.ours(owner)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nd.bad("data_dir", nd.n.DataDir, err)
	}
	for dir := nd.n.DataDir; ; dir = filepath.Dir(dir) {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if errors.Is(err, fs.ErrNotExist) && dir != "/" {
			continue
		}
		if err != nil {
			return nd.bad("data_dir", nd.n.DataDir, fmt.Errorf("%s can not be written: %w", dir, err))
		}
		return nil
	}
}

// ours refuses the data directory of another cluster.
func (nd *node) ours(owner string) error {
	if owner == nd.n.Cluster {
		return nil
	}
	return fmt.Errorf("%s: data_dir: value %q: it belongs to cluster %q, not to %q: name another directory, or move "+
		"it away if that cluster is no more", nd.NodeFile, nd.n.DataDir, owner, nd.n.Cluster)
}

// clusterFile in the data directory says whose it is.
const clusterFile = "cluster"

// load reads and checks everything that can be wrong before anything is done.
func load(opt Options) (*node, error) {
	// The children run in another directory.
	file, err := filepath.Abs(opt.NodeFile)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", opt.NodeFile, err)
	}
	opt.NodeFile = file
	if err := regular(file); err != nil {
		return nil, fmt.Errorf("read agent settings: %w", err)
	}
	nd := &node{Options: opt, clock: clock.New()}
	if nd.n, err = config.LoadNode(file); err != nil {
		return nil, err
	}
	if err := nd.loadCluster(); err != nil {
		return nil, err
	}
	if nd.boot, err = durable.ReadOnce(nd.n.BootIDFile); err != nil {
		return nil, nd.bad("boot_id_file", nd.n.BootIDFile, err)
	}
	if len(nd.dogSocket()) > maxSocket || len(nd.socket()) > maxSocket {
		return nil, nd.bad("run_dir", nd.n.RunDir, fmt.Errorf("want a path of at most %d bytes: it holds unix sockets, whose paths are short",
			maxSocket-len("/")-max(len(filepath.Base(nd.dogSocket())), len(filepath.Base(nd.socket())))))
	}
	return nd, nd.loadTLS()
}

func (nd *node) loadCluster() error {
	file := nd.n.ConfigFile
	if nd.n.GuestsOnly {
		return nil // it is in the store
	}
	if file == "" {
		return nd.bad("config_file", "", errors.New("want the path of the cluster configuration (holdfast config sample writes one)"))
	}
	if err := regular(file); err != nil {
		return nd.bad("config_file", file, err)
	}
	cfg, warnings, err := config.Load(file, config.Options{AllowUndersized: nd.n.Undersized})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		nd.Log.Warn("configuration", "warning", w.String())
	}
	if _, there := cfg.Member(cluster.HostID(nd.n.Host)); !there {
		return nd.bad("host", nd.n.Host, fmt.Errorf("want one of the names in Node of %s: %s; or set guests_only, "+
			"without config_file, for a host that runs other guests only", file, strings.Join(cfg.Node, ", ")))
	}
	nd.cfg = cfg
	if w := cfg.Fencing.Hosts[nd.n.Host].Watchdog; w != "" {
		nd.n.Watchdog.Device = w
	}
	return nil
}

// loadTLS reads the certificates, and checks that what needs them has them.
func (nd *node) loadTLS() error {
	t := nd.n.TLS
	if t.CA == "" && nd.n.API.Listen != "" {
		return nd.bad("tls", "", fmt.Errorf("want ca, cert and key, because api.listen is %q", nd.n.API.Listen))
	}
	if field, url, err := nd.n.BadURL(nd.Insecure); err != nil {
		return nd.bad(field, url, err)
	}
	if t.CA == "" {
		return nil
	}
	for _, f := range []struct{ field, path string }{{"tls.ca", t.CA}, {"tls.cert", t.Cert}, {"tls.key", t.Key}} {
		if err := regular(f.path); err != nil {
			return nd.bad(f.field, f.path, err)
		}
	}
	var err error
	if nd.server, nd.client, err = pki.Load(t.CA, t.Cert, t.Key); err != nil {
		if errors.Is(err, pki.ErrExpired) {
			return fmt.Errorf("%s: tls: %w: %s", nd.NodeFile, err, certificates.InstallAgain)
		}
		return fmt.Errorf("%s: tls: %w", nd.NodeFile, err)
	}
	// The members know a host by this name (docs/adr/0026); an external etcd may not.
	name := nd.client.Certificates[0].Leaf.Subject.CommonName
	if name != nd.n.Host && (nd.n.Store.Member != nil || nd.n.GuestsOnly) {
		return nd.bad("tls.cert", t.Cert, fmt.Errorf("its common name is %q, want host, %q: the members of the store "+
			"know by it what this host may do", name, nd.n.Host))
	}
	if t.CRL == "" {
		return nil
	}
	if err = regular(t.CRL); err == nil {
		err = pki.Deny(nd.server, nd.client, t.CA, t.CRL)
	}
	if err != nil {
		return nd.bad("tls.crl", t.CRL, err)
	}
	return nil
}

// bad is the error about one field of the agent's settings.
func (nd *node) bad(field, value string, err error) error {
	return fmt.Errorf("%s: %s: value %q: %w", nd.NodeFile, field, value, err)
}

// regular refuses what is not a file: a read of a pipe or a device may never
// end, and the children have to read the same again.
func regular(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	what := "device"
	switch info.Mode().Type() {
	case 0:
		return nil
	case fs.ModeDir:
		what = "directory"
	case fs.ModeNamedPipe:
		what = "pipe"
	case fs.ModeSocket:
		what = "socket"
	}
	return fmt.Errorf("%s is a %s: want a file", path, what)
}
