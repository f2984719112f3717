package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"holdfast/internal/config"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/host/vip"
	"holdfast/internal/install"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/network"
	"holdfast/internal/lib/text"
)

// pairFacts looks at what a node of a two-node pair runs on.
func pairFacts(ctx context.Context, q install.PairQuery) (*install.PairFacts, error) {
	d := q.Database
	f := &install.PairFacts{Credentials: map[string]string{}, VIPs: map[string]string{}}
	var err error
	f.Version, err = databaseVersion(ctx, d.Program)
	f.Program = words(err)
	_, err = run(ctx, "systemctl", "is-active", "--quiet", install.DatabaseUnit)
	f.Running = err == nil
	_, err = run(ctx, "systemctl", "is-enabled", "--quiet", install.DatabaseUnit)
	f.Enabled = err == nil
	f.Units = units(ctx, q.Units)
	st, err := os.Stat(d.OptionFile)
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file (%s)", d.OptionFile, st.Mode().Type())
	}
	if err == nil && f.Program == "" {
		f.Lossy, err = lossy(ctx, d, q.Device == nil)
	}
	f.OptionFile = words(err)
	for _, v := range q.VIPs {
		a, err := network.ParseVIP(v)
		if err == nil {
			_, err = vip.New(a, nil, slog.New(slog.DiscardHandler)).Interface()
		}
		if err != nil {
			f.VIPs[v] = words(err)
		}
	}
	if q.Device != nil {
		err := drbd.Ready(ctx, q.Device.Disk)
		if file := q.Device.SecretFile(); err == nil && file != "" {
			err = secret(file, q.Planned)
		}
		f.Device = words(err)
		return f, nil
	}
	return f, replicated(ctx, q, f)
}

// secret sees whether a file has a secret. planned: it may be made later.
func secret(file string, planned bool) error {
	_, err := durable.ReadSecret(file)
	if planned && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// units are the states of units, as systemctl is-enabled says them; "" of one that is not there.
func units(ctx context.Context, names []string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		// Its exit code says whether a boot starts the unit. A unit that is not there has a sentence, or not-found.
		said, _ := run(ctx, "systemctl", "is-enabled", "--", name)
		out[name] = strings.TrimSpace(said)
		if strings.ContainsAny(out[name], " \n") || out[name] == "not-found" {
			out[name] = ""
		}
	}
	return out
}

// mostWeak is how many tables are named.
const mostWeak = 10

// replicated looks at what a database needs that is replicated by itself.
func replicated(ctx context.Context, q install.PairQuery, f *install.PairFacts) (err error) {
	d := q.Database
	for _, tool := range install.DatabaseTools() {
		if _, err := exec.LookPath(tool); err != nil {
			f.Missing = append(f.Missing, tool)
		}
	}
	for _, a := range []config.PairAccount{d.Admin, d.Replication} {
		if err := secret(a.File(), q.Planned); err != nil {
			f.Credentials[a.File()] = words(err)
		}
	}
	if f.Datadir = words(replaceable(d.Datadir)); f.Datadir != "" {
		return nil
	}
	if f.Used, err = used(ctx, d.Datadir); err != nil {
		return err
	}
	if f.Free, err = space(filepath.Dir(d.Datadir)); err != nil {
		return err
	}
	weak, err := mariadb.WeakTables(d.Datadir)
	for _, w := range weak[:min(mostWeak, len(weak))] {
		f.Weak = append(f.Weak, text.Clean(w.String()))
	}
	f.WeakMore = len(weak) - len(f.Weak)
	return err
}

// lossy says which options of the option file let acknowledged writes be lost. The program itself reads the file: which of its
// sections count, and what they include, depends on its version.
func lossy(ctx context.Context, d config.PairDatabase, replicated bool) ([]string, error) {
	out, err := run(ctx, d.Program, "--defaults-file="+d.OptionFile, "--print-defaults")
	if err != nil {
		return nil, err
	}
	_, args, _ := strings.Cut(out, "arguments:\n")
	return mariadb.Unfit(strings.Split(" "+strings.TrimSpace(args), " --"), replicated), nil
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return text.Clean(err.Error())
}

// versionOf finds the version in what mariadbd --version says:
// "mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)".
var versionOf = regexp.MustCompile(`Ver (\d+\.\d+\.\d+)-MariaDB`)

func databaseVersion(ctx context.Context, program string) (string, error) {
	out, err := run(ctx, program, "--no-defaults", "--version")
	if err != nil {
		return "", err
	}
	m := versionOf.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s is no MariaDB server: it says %.100q", program, out)
	}
	return m[1], nil
}

// replaceable: a copy takes the place of the data directory by a rename, which a link or a
// mount point does not let it do.
func replaceable(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is no directory (%s)", dir, st.Mode().Type())
	}
	above, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return err
	}
	if st.Sys().(*syscall.Stat_t).Dev != above.Sys().(*syscall.Stat_t).Dev {
		return fmt.Errorf("%s is a mount point, and a copy could not take its place: want a directory below it", dir)
	}
	return nil
}

// used is what the files below dir take, in MiB. A database that runs removes some meanwhile.
func used(ctx context.Context, dir string) (int64, error) {
	var blocks int64 // of 512 bytes
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		var st fs.FileInfo
		if err == nil {
			st, err = e.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return ctx.Err()
		case err != nil:
			return err
		}
		blocks += st.Sys().(*syscall.Stat_t).Blocks
		return ctx.Err()
	})
	if err != nil {
		return 0, fmt.Errorf("see how large %s is: %w", dir, err)
	}
	return (blocks*512 + 1<<20 - 1) >> 20, nil
}
