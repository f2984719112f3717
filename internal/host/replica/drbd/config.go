package drbd

import (
	_ "embed" // the form of the resource file
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// Config is one device of two nodes. It is the same on both, but for Self and Peer.
type Config struct {
	Resource string // its name, such as r0
	Minor    int    // of the device /dev/drbdN
	Disk     string // path of the block device below, on both nodes; its end holds DRBD's own data
	Self     Node
	Peer     Node
	Secret   string // both have it; "" is none
	// Handler is the command line that runs Handle with RunDir. Words without quotes and blanks.
	Handler []string
	RunDir  string // empty after a boot
	Conf    string // directory of resource files, "" is /etc/drbd.d
}

// Node is one end.
type Node struct {
	Name string // as the kernel has it (uname -n)
	Addr netip.AddrPort
}

// Device is the path of the device.
func (c Config) Device() string { return fmt.Sprintf("/dev/drbd%d", c.Minor) }

func (c Config) file() string {
	dir := c.Conf
	if dir == "" {
		dir = "/etc/drbd.d"
	}
	return filepath.Join(dir, c.Resource+".res")
}

// MaxSecret is how many characters a secret has at most: the kernel takes 64 bytes with the one that ends it
// (SHARED_SECRET_MAX of linux/drbd_limits.h), and refuses the connection else.
const MaxSecret = 63

// What may stand in a resource file without harm.
var (
	nameForm = text.Pattern(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	pathForm = text.Pattern(`^/[A-Za-z0-9_./:@+=-]+$`)
	wordForm = text.Pattern(`^[A-Za-z0-9_./:@+=-]+$`)
)

// check gives the first fault.
func (c Config) check() error {
	bad := func(field, value, want string) error {
		return fail.Errorf(fail.Invalid, "DRBD: %s: value %q: want %s", field, value, want)
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	switch {
	case !nameForm().MatchString(c.Resource):
		return bad("resource", c.Resource, "letters, digits, - _ .")
	case c.Minor < 0 || c.Minor > 1<<20-1:
		return bad("minor", fmt.Sprint(c.Minor), "0 to 1048575")
	case !pathForm().MatchString(c.Disk):
		return bad("disk", c.Disk, "the path of a block device")
	case c.Self.Name != host:
		return bad("self", c.Self.Name, "the name of this host, "+host)
	case !nameForm().MatchString(c.Peer.Name) || c.Peer.Name == c.Self.Name:
		return bad("peer", c.Peer.Name, "the name of the other host")
	case len(c.Secret) > MaxSecret || c.Secret != "" && !wordForm().MatchString(c.Secret):
		return fail.Errorf(fail.Invalid, "DRBD: secret: want at most 63 letters, digits and _ . / : @ + = -")
	case !filepath.IsAbs(c.RunDir):
		return bad("run directory", c.RunDir, "an absolute path")
	case len(c.Handler) == 0:
		return bad("handler", "", "a command line")
	}
	for _, n := range c.Nodes() {
		if !n.Addr.IsValid() || n.Addr.Port() == 0 || n.Addr.Addr().IsUnspecified() {
			return bad("address of "+n.Name, n.Addr.String(), "an address and a port")
		}
	}
	for _, w := range c.Handler {
		if !wordForm().MatchString(w) {
			return bad("handler", w, "words without quotes and blanks")
		}
	}
	return nil
}

//go:embed resource.tmpl
var resource string

var resourceForm = template.Must(template.New("resource").Parse(resource))

// Nodes are both ends.
func (c Config) Nodes() []Node { return []Node{c.Self, c.Peer} }

// form is what the resource file is made of.
type form struct {
	Config
	Nine bool // for DRBD 9, else for 8.4
}

// Ordered are both ends in an order that is the same on both nodes: the numbers of DRBD 9.
func (f form) Ordered() []Node {
	if f.Peer.Name < f.Self.Name {
		return []Node{f.Peer, f.Self}
	}
	return f.Nodes()
}

// text is the resource file, of drbd.conf(5).
func (c Config) text(v version) (string, error) {
	var b strings.Builder
	err := resourceForm.Execute(&b, form{c, v.nine()})
	return b.String(), err
}
