package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
)

// Session is an iSCSI session of this host.
type Session struct {
	Target  string   // IQN
	Portal  string   // ADDRESS:PORT, "" when it has no connection just now
	Devices []string // kernel names of its disks, such as sdb
}

// Run carries out a program and returns what it wrote to standard output. When
// it ends with another exit code than 0 the error is an *ExitError.
type Run func(ctx context.Context, name string, args ...string) ([]byte, error)

// ExitError is the failure of a program.
type ExitError struct {
	Code   int
	Stderr string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("exit code %d: %s", e.Code, strings.TrimSpace(e.Stderr))
}

// Exec is a Run on this host.
func Exec(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second // a child of it that keeps the pipes open
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return out, &ExitError{Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return out, err
}

// ISCSI logs this host in to iSCSI targets and out, by open-iscsi's iscsiadm.
type ISCSI struct {
	run     Run
	storage storage
}

// ISCSI returns the iSCSI initiator of the Fleet's host.
func (f *Fleet) ISCSI(run Run) *ISCSI { return &ISCSI{run: run, storage: f.storage} }

// Exit codes of iscsiadm(8).
const (
	iscsiSessExists = 15
	iscsiNoObjects  = 21
)

// iscsiLimit bounds one call of iscsiadm, which waits 30 s for a portal by itself.
const iscsiLimit = 2 * time.Minute

// ErrInUse: disks of the session are mounted or in use otherwise.
var ErrInUse = errors.New("disks of the session are in use")

// Sessions returns the sessions that the kernel has.
func (i *ISCSI) Sessions() ([]Session, error) { return i.storage.sessions() }

// Login logs in to a target that is known to open-iscsi (discovered before).
// portal is ADDRESS:PORT; "" for all portals of the target. nil also when the
// session is there already.
func (i *ISCSI) Login(ctx context.Context, target, portal string) error {
	return i.admin(ctx, "log in to", target, portal, "--login", iscsiSessExists)
}

// Logout ends the session with a target. It refuses, with ErrInUse, while a disk
// of it is mounted or is below another device: the kernel would end it all the
// same, and whatever writes then hangs. nil also when there is no session.
func (i *ISCSI) Logout(ctx context.Context, target, portal string) error {
	users, err := i.storage.users(target, portal)
	if err == nil && len(users) > 0 {
		err = fmt.Errorf("%w: %s", ErrInUse, strings.Join(users, ", "))
	}
	if err != nil {
		return fmt.Errorf("log out of %s: %w", target, err)
	}
	return i.admin(ctx, "log out of", target, portal, "--logout", iscsiNoObjects)
}

// targetName keeps options out of iscsiadm's command line.
var targetName = regexp.MustCompile(`^(iqn|eui|naa)\.[A-Za-z0-9.:_-]+$`)

func (i *ISCSI) admin(ctx context.Context, what, target, portal, verb string, fine int) error {
	if !targetName.MatchString(target) {
		return fmt.Errorf("%s %q: want an iSCSI name (iqn., eui. or naa.)", what, target)
	}
	args := []string{"-m", "node", "-T", target}
	if portal != "" {
		if strings.HasPrefix(portal, "-") {
			return fmt.Errorf("%s %s: portal %q: want ADDRESS:PORT", what, target, portal)
		}
		args = append(args, "-p", portal)
	}
	ctx, cancel := context.WithTimeout(ctx, share(ctx, iscsiLimit))
	defer cancel()
	_, err := i.run(ctx, "iscsiadm", append(args, verb)...)
	var exit *ExitError
	if errors.As(err, &exit) && exit.Code == fine {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %s: iscsiadm: %w", what, target, err)
	}
	return nil
}

// sessions reads them from sysfs; that needs no iscsiadm, and asks no portal.
func (s storage) sessions() ([]Session, error) {
	dir := filepath.Join(s.sys, "class/iscsi_session")
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the kernel's module is not loaded
	}
	if err != nil {
		return nil, fmt.Errorf("read the iSCSI sessions: %w", err)
	}
	var out []Session
	for _, e := range all {
		one, err := s.session(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read iSCSI session %s: %w", e.Name(), err)
		}
		out = append(out, one)
	}
	return out, nil
}

func (s storage) session(dir string) (Session, error) {
	target, err := os.ReadFile(filepath.Join(dir, "targetname"))
	if err != nil {
		return Session{}, err
	}
	out := Session{Target: strings.TrimSpace(string(target))}
	// The session's device has its connections and its SCSI targets below it.
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return Session{}, err
	}
	conns, err := filepath.Glob(filepath.Join(real, "connection*/iscsi_connection/connection*"))
	if err != nil {
		return Session{}, err
	}
	for _, c := range conns {
		addr, err := os.ReadFile(filepath.Join(c, "persistent_address"))
		if err != nil {
			return Session{}, err
		}
		port, err := os.ReadFile(filepath.Join(c, "persistent_port"))
		if err != nil {
			return Session{}, err
		}
		out.Portal = joinPortal(strings.TrimSpace(string(addr)), strings.TrimSpace(string(port)))
	}
	disks, err := filepath.Glob(filepath.Join(real, "target*/*/block/*"))
	if err != nil {
		return Session{}, err
	}
	for _, d := range disks {
		out.Devices = append(out.Devices, filepath.Base(d))
	}
	return out, nil
}

func joinPortal(addr, port string) string {
	if strings.Contains(addr, ":") && !strings.HasPrefix(addr, "[") {
		addr = "[" + addr + "]"
	}
	return addr + ":" + port
}

// users tells what uses the disks of a target's sessions. portal "" is any.
func (s storage) users(target, portal string) ([]string, error) {
	all, err := s.sessions()
	if err != nil {
		return nil, err
	}
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, one := range all {
		if one.Target != target || portal != "" && one.Portal != "" && one.Portal != portal {
			continue
		}
		for _, disk := range one.Devices {
			u, err := s.usersOf(disk, mounts)
			if err != nil {
				return nil, err
			}
			out = append(out, u...)
		}
	}
	return out, nil
}

// usersOf tells where a disk and its partitions are mounted, and what is on top
// of them.
func (s storage) usersOf(disk string, mounts []*mountinfo.Info) ([]string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(s.sys, "class/block", disk))
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", disk, err)
	}
	parts, err := filepath.Glob(filepath.Join(real, disk+"*"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, dir := range slices.Insert(parts, 0, real) {
		name := filepath.Base(dir)
		for _, m := range mounts {
			if m.Source == "/dev/"+name {
				out = append(out, name+" mounted at "+m.Mountpoint)
			}
		}
		holders, err := os.ReadDir(filepath.Join(dir, "holders"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("device %s: %w", name, err)
		}
		for _, h := range holders {
			used, err := s.mapperInUse(h.Name(), mounts)
			if err != nil {
				return nil, err
			}
			out = append(out, used...)
		}
	}
	return out, nil
}

// mapperInUse tells what uses a device on top of a session's disk. A multipath
// device that nobody uses does not count: multipathd lets it go.
func (s storage) mapperInUse(name string, mounts []*mountinfo.Info) ([]string, error) {
	multipath, err := s.isMultipath(name)
	if err != nil {
		return nil, err
	}
	if !multipath {
		return []string{name}, nil
	}
	path, err := s.mapperName(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range mounts {
		if m.Source == path || m.Source == "/dev/"+name {
			out = append(out, path+" mounted at "+m.Mountpoint)
		}
	}
	over, err := os.ReadDir(filepath.Join(s.sys, "class/block", name, "holders"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	for _, o := range over {
		out = append(out, o.Name()+" on "+path)
	}
	return out, nil
}
