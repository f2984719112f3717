package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"holdfast/internal/lib/durable"
)

// Names of places.
const (
	Agent   = "agent"   // the agents' API and the store
	Memory  = "memory"  // QEMU, for guests' memory
	Libvirt = "libvirt" // libvirtd
)

// Place is where a program on a host looks for its certificate and key. All names of
// certificates hold the same one.
//
// A place in which a pair was replaced once has links at these names: they lead by one
// link, WHICH.pair in Dir, to a folder with both files. A rename of that link replaces
// certificate and key at once.
type Place struct {
	Which     string
	Use       Use
	Authority string // certificate of the authority that peers are held to
	Dir       string
	Cert, Key []string
}

// AgentPlace is that of the agent and the store's member.
func AgentPlace(ca, cert, key string) Place {
	return Place{Which: Agent, Use: ForAgents, Authority: ca, Dir: filepath.Dir(cert), Cert: []string{cert}, Key: []string{key}}
}

// HypervisorPlaces are where QEMU and libvirt look by themselves.
func HypervisorPlaces() []Place {
	const q, l = "/etc/pki/qemu/", "/etc/pki/libvirt/"
	return []Place{
		{Memory, ForHypervisor, q + "ca-cert.pem", q, []string{q + "server-cert.pem", q + "client-cert.pem"},
			[]string{q + "server-key.pem", q + "client-key.pem"}},
		{Libvirt, ForHypervisor, "/etc/pki/CA/cacert.pem", l, []string{l + "servercert.pem", l + "clientcert.pem"},
			[]string{l + "private/serverkey.pem", l + "private/clientkey.pem"}},
	}
}

const pairSuffix = ".pair"

func (p Place) link() string { return filepath.Join(p.Dir, p.Which+pairSuffix) }

// IsLink tells whether a link to this is one that Replace has put in a file's place.
func IsLink(to string) bool { return strings.HasSuffix(filepath.Dir(to), pairSuffix) }

// Replace puts another pair in the place of the one that is there, with its mode and
// group. A process that dies here leaves the old pair or the new one, both complete and
// on disk; Replace again then does all of it.
func (p Place) Replace(next Pair) error {
	if err := p.replace(next, func(string) error { return nil }); err != nil {
		return fmt.Errorf("replace the certificate %s: %w", p.Cert[0], err)
	}
	return nil
}

// replace asks before each change; what it asks about is for people.
func (p Place) replace(next Pair, may func(string) error) error {
	old, owner, err := p.pair()
	if err != nil {
		return err
	}
	if !p.linked() {
		// First the pair that is there by the link, then links for its names: none of
		// these changes what is read.
		if err := p.turn(old, owner, may); err != nil {
			return err
		}
		for i := range p.Cert {
			for name, file := range map[string]string{p.Key[i]: keyFile, p.Cert[i]: certFile} {
				if err := p.toLink(name, file, may); err != nil {
					return err
				}
			}
		}
	}
	return p.turn(next, owner, may)
}

// Names in the folder of a pair.
const (
	certFile = "cert.pem"
	keyFile  = "key.pem"
)

// pair reads what is there, and who may read it.
func (p Place) pair() (Pair, fs.FileInfo, error) {
	var out Pair
	for i := range p.Cert {
		cert, err := os.ReadFile(p.Cert[i])
		if err != nil {
			return out, nil, err
		}
		key, err := os.ReadFile(p.Key[i])
		if err != nil {
			return out, nil, err
		}
		if i > 0 && (!bytes.Equal(cert, out.CertPEM) || !bytes.Equal(key, out.KeyPEM)) {
			return out, nil, fmt.Errorf("%s holds another certificate than %s: these were not made here", p.Cert[i], p.Cert[0])
		}
		out = Pair{CertPEM: cert, KeyPEM: key}
	}
	if _, err := tls.X509KeyPair(out.CertPEM, out.KeyPEM); err != nil {
		return out, nil, fmt.Errorf("%s and %s: %w", p.Cert[0], p.Key[0], err)
	}
	owner, err := os.Stat(p.Key[0])
	return out, owner, err
}

func (p Place) target(name, file string) (string, error) {
	rel, err := filepath.Rel(filepath.Dir(name), p.link())
	return filepath.Join(rel, file), err
}

// linked reports whether all names lead to the pair's link already.
func (p Place) linked() bool {
	for i := range p.Cert {
		for name, file := range map[string]string{p.Key[i]: keyFile, p.Cert[i]: certFile} {
			want, err := p.target(name, file)
			if err != nil {
				return false
			}
			if to, err := os.Readlink(name); err != nil || to != want {
				return false
			}
		}
	}
	return true
}

// toLink replaces a file by a link to what it holds.
func (p Place) toLink(name, file string, may func(string) error) error {
	to, err := p.target(name, file)
	if err != nil {
		return err
	}
	return symlink(to, name, may)
}

// symlink puts a link in the place of what has its name.
func symlink(to, name string, may func(string) error) error {
	temp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := may("make " + temp); err != nil {
		return err
	}
	if err := os.Symlink(to, temp); err != nil {
		return err
	}
	if err := may("rename to " + name); err != nil {
		return err
	}
	return durable.Rename(temp, name)
}

// turn lays a pair into a folder of its own and has the link lead there.
func (p Place) turn(pair Pair, owner fs.FileInfo, may func(string) error) error {
	if err := may("make a folder"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(p.Dir, filepath.Base(p.link())+"-")
	if err != nil {
		return err
	}
	mode := owner.Mode().Perm()
	gid := -1
	if st, ok := owner.Sys().(*syscall.Stat_t); ok {
		gid = int(st.Gid)
	}
	for name, data := range map[string][]byte{keyFile: pair.KeyPEM, certFile: pair.CertPEM} {
		if err := may("write " + name); err != nil {
			return err
		}
		err := durable.Write(filepath.Join(dir, name), mode, func(f *os.File) error {
			if err := f.Chown(-1, gid); err != nil {
				return err
			}
			_, err := f.Write(data)
			return err
		})
		if err != nil {
			return err
		}
	}
	// Who may read the files may look for them.
	if err := errors.Join(os.Chown(dir, -1, gid), os.Chmod(dir, 0o700|(mode&0o044)|(mode&0o044)>>2), durable.SyncDir(p.Dir)); err != nil {
		return err
	}
	return symlink(filepath.Base(dir), p.link(), may)
}

// Sweep removes pairs that nothing leads to any more. Whoever had begun to read one
// when it was replaced should have a moment for that.
func (p Place) Sweep() error {
	to, err := os.Readlink(p.link())
	if errors.Is(err, fs.ErrNotExist) {
		to, err = "", nil
	}
	all, rerr := os.ReadDir(p.Dir)
	if err = errors.Join(err, rerr); err != nil {
		return fmt.Errorf("remove replaced certificates: %w", err)
	}
	for _, e := range all {
		if e.IsDir() && e.Name() != to && strings.HasPrefix(e.Name(), filepath.Base(p.link())+"-") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(p.Dir, e.Name())))
		}
	}
	return err
}
