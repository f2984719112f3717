package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"holdfast/internal/config"
	"holdfast/internal/host/firewall"
	"holdfast/internal/install"
	"holdfast/internal/lib/durable"
)

// stopWithin bounds the end of what outlives the agent: a database may have much to apply before.
const stopWithin = 15 * time.Minute

// agentWithin bounds a command of the installed program: holdfast stop waits for
// the end of the management VM.
const agentWithin = 6 * time.Minute

// start has the system run the agent, now and when it boots.
func start(ctx context.Context, restart, tls bool) error {
	if out, err := run(ctx, install.Program, "agent", "--check", "--config", install.SettingsFile); err != nil {
		return fmt.Errorf("the agent refuses its settings: %w: %s", err, out)
	}
	if tls {
		if err := serveTLS(ctx); err != nil {
			return err
		}
	}
	if _, err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if _, err := run(ctx, "systemctl", "enable", install.Unit); err != nil {
		return err
	}
	verb := "start"
	if restart {
		verb = "restart"
	}
	_, err := run(ctx, "systemctl", verb, install.Unit)
	return err
}

// serveTLS makes libvirt take connections of other hosts by TLS: libvirtd's
// socket, or that of virtproxyd where libvirt runs as several daemons. The guests
// go on while the daemon restarts.
func serveTLS(ctx context.Context) error {
	for _, d := range []struct{ daemon, socket string }{{"virtproxyd", "virtproxyd-tls.socket"}, {"libvirtd", "libvirtd-tls.socket"}} {
		if _, err := run(ctx, "systemctl", "cat", d.socket); err != nil {
			continue
		}
		if d.daemon == "virtproxyd" {
			if _, err := run(ctx, "systemctl", "is-enabled", "--quiet", "virtproxyd.socket"); err != nil {
				continue // libvirt runs as one daemon here
			}
		}
		if _, err := run(ctx, "systemctl", "is-active", "--quiet", d.socket); err == nil {
			return nil
		}
		// A socket can not be added to a daemon that runs without it.
		for _, args := range [][]string{{"stop", d.daemon + ".service"}, {"enable", "--now", d.socket}, {"start", d.daemon + ".service"}} {
			if _, err := run(ctx, "systemctl", args...); err != nil {
				return fmt.Errorf("make libvirt serve other hosts by TLS: %w", err)
			}
		}
		return nil
	}
	return errors.New("make libvirt serve other hosts by TLS: it has neither libvirtd-tls.socket nor virtproxyd-tls.socket")
}

// settings are those of the agent that is installed; nil: none is.
func settings() (*config.Node, error) {
	n, err := config.LoadNode(install.SettingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &n, err
}

// stop ends the agent and what outlives it. "retire" refuses while that would harm:
// then the agent runs again.
func stop(ctx context.Context) error {
	n, err := settings()
	if err != nil || n == nil {
		return err
	}
	if _, err := run(ctx, "systemctl", "cat", install.Unit); err == nil {
		if err := disarmed(ctx); err != nil {
			return err
		}
		if _, err := run(ctx, "systemctl", "disable", "--now", install.Unit); err != nil {
			return fmt.Errorf("stop the agent: %w", err)
		}
	}
	if _, err := runFor(ctx, stopWithin, install.Program, "retire", "--apart", "--config", install.SettingsFile); err != nil {
		_, back := run(ctx, "systemctl", "enable", "--now", install.Unit)
		return errors.Join(err, back)
	}
	return nil
}

// disarmed makes sure that nobody has to pet the watchdog of this host any more: without an agent the host would be reset.
func disarmed(ctx context.Context) error {
	self, err := os.Executable() // the program that is installed may be an older one
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	look := func(within string) error {
		_, err := runFor(ctx, stopWithin, self, "retire", "--disarmed", within, "--config", install.SettingsFile)
		return err
	}
	if look("0s") == nil {
		return nil
	}
	if _, err := run(ctx, "systemctl", "enable", "--now", install.Unit); err != nil { // an earlier call may have stopped the agent
		return fmt.Errorf("start the agent, which disarms the watchdog: %w", err)
	}
	return look("1m")
}

// remove takes everything of ours off this host, after stop: files of packages stay
// with their packages. The settings go last, so that a second try finds them.
func remove(ctx context.Context, files []install.File) (gone, left []string, err error) {
	n, err := settings()
	if err != nil {
		return nil, nil, err
	}
	if _, err := firewall.New("").Apply(ctx, nil); err != nil {
		return nil, nil, fmt.Errorf("take our rules out of the firewall: %w", err)
	}
	var paths []string
	if n != nil {
		paths = append(paths, n.DataDir, n.DataDir+"-packages", n.RunDir)
	}
	links := map[string]bool{}
	for _, f := range files {
		paths = append(paths, f.Path)
		links[f.Path] = f.Link != ""
	}
	paths = append(paths, "/var/log/holdfast", workDir, install.ConfDir)
	packages := owners(ctx, paths)
	for _, path := range paths {
		took, err := take(path, packages[path], links[path])
		if err != nil {
			return gone, left, err
		}
		if took == "" {
			gone = append(gone, path)
		} else if took != nothing {
			left = append(left, path+": "+took)
		}
	}
	for _, dir := range []string{filepath.Dir(install.Program), filepath.Dir(filepath.Dir(install.Program))} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return gone, left, err
		}
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		_, err = run(ctx, "systemctl", "daemon-reload")
		return gone, left, err
	}
	return gone, left, nil
}

// nothing is what take says of a path that is not there.
const nothing = "nothing"

// take removes a path, and says why it stays, "" when it is gone. It leaves what
// package owner has, file systems that are mounted below it, and what is no link where ours was one.
func take(path, owner string, link bool) (why string, err error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nothing, nil
	}
	if err != nil {
		return "", err
	}
	if st.Mode().Type() == fs.ModeSymlink {
		if to, err := os.Readlink(path); err != nil || to != install.Program {
			return "it leads to " + to, err
		}
	}
	if link && st.Mode().Type() != fs.ModeSymlink {
		return "it is no link of ours", nil
	}
	if owner != "" {
		return "it belongs to package " + owner + ": remove that", nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(path))
	if err != nil {
		return "", fmt.Errorf("read the mounts: %w", err)
	}
	if len(mounts) > 0 {
		return mounts[0].Mountpoint + " is mounted there", nil
	}
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return "", durable.SyncDir(filepath.Dir(path))
}

// owners names the packages that paths belong to; those of none are left out.
// Without either tool there are none.
func owners(ctx context.Context, paths []string) map[string]string {
	out := map[string]string{}
	// Both fail when a path is in no package, and tell of the others.
	said, _ := run(ctx, "dpkg-query", append([]string{"-S", "--"}, paths...)...)
	for line := range strings.Lines(said) {
		if pkg, path, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			out[path] = pkg
		}
	}
	for _, path := range paths {
		if _, err := os.Stat("/usr/bin/rpm"); err != nil {
			break
		}
		if said, err := run(ctx, "rpm", "-qf", "--", path); err == nil {
			out[path] = strings.TrimSpace(said)
		}
	}
	return out
}

// agent runs a command of the installed program, which asks its agent.
func agent(ctx context.Context, args []string, input []byte) (string, error) {
	n, err := settings()
	if err != nil {
		return "", err
	}
	if n == nil {
		return "", errors.New("this host has no settings of an agent: Holdfast is not installed here")
	}
	return runWith(ctx, agentWithin, input, install.Program, append(args, "--socket", filepath.Join(n.RunDir, "holdfast.sock"))...)
}

// keys are the authorities of this host's cluster.
func keys() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, name := range install.AuthorityFiles() {
		raw, err := os.ReadFile(filepath.Join(install.KeyDir, name))
		if err != nil {
			return nil, fmt.Errorf("read the cluster's authorities: %w", err)
		}
		out[name] = raw
	}
	return out, nil
}
