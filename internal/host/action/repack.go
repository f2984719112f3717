package action

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5" // dpkg's own database has these
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/action/program"
)

// This file makes a package of what is installed, as dpkg-repack does: files as they are now, and what
// dpkg's database has of the package. It also compares packages with that database.

// repack writes the package that is installed. Files that are not there any more are left out, and
// those that were changed are taken as they are: the way back leads to what was there. It says
// which, and returns the contents.
func (d *dpkg) repack(ctx context.Context, x pkg, out *os.File) (contents, error) {
	fail := func(err error) (contents, error) {
		return nil, fmt.Errorf("make the package of %s %s again: %w", x.Name, x.Was, err)
	}
	db, err := d.installed(ctx, x)
	if err != nil {
		return fail(err)
	}
	if _, err := out.WriteString("!<arch>\n" + arMember("debian-binary", 4) + "2.0\n"); err != nil {
		return fail(err)
	}
	control, err := db.controlTar()
	if err != nil {
		return fail(err)
	}
	if _, err := out.WriteString(arMember("control.tar.gz", int64(len(control)))); err != nil {
		return fail(err)
	}
	if _, err := out.Write(append(control, make([]byte, len(control)%2)...)); err != nil {
		return fail(err)
	}
	head, err := out.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = out.WriteString(arMember("data.tar.gz", 0))
	}
	if err != nil {
		return fail(err)
	}
	begin := head + int64(len(arMember("", 0)))
	found, err := db.dataTar(ctx, out)
	if err != nil {
		return fail(err)
	}
	end, err := out.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = out.Write(make([]byte, (end-begin)%2))
	}
	if err == nil {
		_, err = out.WriteAt([]byte(arMember("data.tar.gz", end-begin)), head)
	}
	if err != nil {
		return fail(err)
	}
	return found, nil
}

// arMember is the header of a member of an archive of ar.
func arMember(name string, size int64) string {
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", size)
}

// contents are the names of a package, as dpkg's lists have them, with the MD5 of regular files in hex;
// "" where that is not known, or for others.
type contents map[string]string

// inDatabase is what dpkg's database has of a package.
type inDatabase struct {
	d       *dpkg
	name    string // of its files in the database, without an end
	stanza  string // of the status file
	list    []string
	sums    contents          // of those that have one
	skip    map[string]bool   // conffiles of earlier versions
	diverts map[string]string // where files are in truth
}

// installed reads what dpkg's database has of the package that is there.
func (d *dpkg) installed(ctx context.Context, x pkg) (*inDatabase, error) {
	qualified := x.Name + ":" + x.before().Arch
	out, exit, err := d.host.query(ctx, "dpkg-query", "--admindir="+d.database(), "-s", qualified)
	if err != nil || exit != 0 {
		return nil, errors.Join(fmt.Errorf("dpkg-query -s %s ended with exit code %d", qualified, exit), err)
	}
	db := &inDatabase{d: d, stanza: out, name: filepath.Join(d.database(), "info", qualified)}
	if _, err := os.Stat(db.name + ".list"); errors.Is(err, fs.ErrNotExist) {
		db.name = filepath.Join(d.database(), "info", x.Name)
	}
	text, err := os.ReadFile(db.name + ".list")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if name := strings.TrimSuffix(line, "\n"); path.IsAbs(name) && path.Clean(name) == name {
			db.list = append(db.list, name)
		}
	}
	if db.sums, err = readSums(db.name + ".md5sums"); err != nil {
		return nil, err
	}
	db.skip = oldConffiles(out)
	db.diverts, err = d.diversions(x.Name)
	return db, err
}

// readSums reads a list of MD5 sums; without the file there are none.
func readSums(file string) (contents, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := contents{}
	for line := range strings.Lines(string(text)) {
		if sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  "); ok {
			out["/"+strings.TrimPrefix(name, "./")] = sum
		}
	}
	return out, nil
}

// oldConffiles are those that the package itself does not have any more.
func oldConffiles(stanza string) map[string]bool {
	out := map[string]bool{}
	in := false
	for line := range strings.Lines(stanza) {
		if !strings.HasPrefix(line, " ") {
			in = strings.HasPrefix(line, "Conffiles:")
		} else if f := strings.Fields(line); in && len(f) > 2 {
			out[f[0]] = true // obsolete, remove-on-upgrade
		}
	}
	return out
}

// diversions are the files of a package that others have moved out of their way, by name.
func (d *dpkg) diversions(name string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(d.database(), "diversions"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	lines := strings.Split(string(text), "\n")
	out := map[string]string{}
	for i := 0; i+2 < len(lines); i += 3 { // from, to, package
		if lines[i+2] != name {
			out[lines[i]] = lines[i+1]
		}
	}
	return out, nil
}

// notOfPackage are fields of the status file that no package has.
var notOfPackage = []string{"Status", "Config-Version", "Conffiles", "Triggers-Pending", "Triggers-Awaited"}

func (db *inDatabase) control() string {
	var b strings.Builder
	skip := false
	for line := range strings.Lines(db.stanza) {
		if !strings.HasPrefix(line, " ") {
			key, _, _ := strings.Cut(line, ":")
			skip = slices.Contains(notOfPackage, key)
		}
		if !skip && strings.TrimSpace(line) != "" {
			b.WriteString(line)
		}
	}
	return b.String()
}

// controlFiles are the other control files: scripts, triggers and the like.
func (db *inDatabase) controlFiles() (map[string][]byte, error) {
	list, err := os.ReadDir(filepath.Dir(db.name))
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, e := range list {
		end, ok := strings.CutPrefix(e.Name(), filepath.Base(db.name)+".")
		if !ok || end == "list" || strings.Contains(end, ".") {
			continue
		}
		if out[end], err = os.ReadFile(db.name + "." + end); err != nil {
			return nil, err
		}
	}
	if c, ok := out["conffiles"]; ok {
		var kept []byte
		for line := range bytes.Lines(c) { // dpkg wants those that are listed to be in the package
			if _, err := os.Lstat(db.at(strings.TrimSpace(string(line)))); err == nil {
				kept = append(kept, line...)
			}
		}
		out["conffiles"] = kept
	}
	return out, nil
}

func (db *inDatabase) controlTar() ([]byte, error) {
	files, err := db.controlFiles()
	if err != nil {
		return nil, err
	}
	files["control"] = []byte(db.control())
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, Format: tar.FormatGNU})
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := int64(0o644)
		if slices.Contains(scripts, name) {
			mode = 0o755
		}
		err = errors.Join(err, t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Mode: mode,
			Size: int64(len(files[name])), Format: tar.FormatGNU}))
		if err == nil {
			_, err = t.Write(files[name])
		}
	}
	err = errors.Join(err, t.Close(), z.Close())
	return b.Bytes(), err
}

// scripts are what dpkg runs of a package.
var scripts = []string{"preinst", "postinst", "prerm", "postrm", "config"}

// at is where a file of the package is on the host.
func (db *inDatabase) at(name string) string {
	if to := db.diverts[name]; to != "" {
		name = to
	}
	return db.d.under(name)
}

// dataTar writes the files of the package.
func (db *inDatabase) dataTar(ctx context.Context, out io.Writer) (contents, error) {
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	found := contents{}
	for _, name := range db.list {
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case db.skip[name]:
			continue
		}
		sum, err := db.add(t, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = sum
	}
	return found, errors.Join(t.Close(), z.Close())
}

// add writes a file, directory or link, and returns the MD5 of a file.
func (db *inDatabase) add(t *tar.Writer, name string) (string, error) {
	place := db.at(name)
	st, err := os.Lstat(place)
	if err != nil {
		return "", err
	}
	if st.Mode().Type() == fs.ModeSymlink && slices.ContainsFunc(db.list, func(x string) bool { return strings.HasPrefix(x, name+"/") }) {
		if st, err = os.Stat(place); err != nil { // the directory of the package is a link on this host, such as /lib
			return "", err
		}
	}
	link := ""
	switch st.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if link, err = os.Readlink(place); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("%s is no file, directory or link", name)
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return "", err
	}
	h.Name, h.Uname, h.Gname, h.Format = "."+name, "", "", tar.FormatGNU
	h.ModTime, h.AccessTime, h.ChangeTime = h.ModTime.Truncate(time.Second), time.Time{}, time.Time{}
	if name == "/." {
		h.Name = "./"
	} else if st.IsDir() {
		h.Name += "/"
	}
	if err := t.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return "", err
	}
	f, err := os.Open(place)
	if err != nil {
		return "", err
	}
	sum := md5.New()
	_, err = io.Copy(io.MultiWriter(t, sum), f)
	return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, f.Close())
}

// holds wants all of what is asked for in a package file, with the same contents.
func (d *dpkg) holds(ctx context.Context, file string, want contents) error {
	tool, err := program.LookIn(d.host.Tools.path(), "dpkg-deb")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, "--fsys-tarfile", file)
	var said bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stderr, cmd.WaitDelay = []string{"PATH=" + d.host.Tools.path(), "LC_ALL=C.UTF-8"}, "/", &said, time.Second
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	have, err := readTar(pipe)
	_, rest := io.Copy(io.Discard, pipe) // the padding at the end
	if err := errors.Join(err, rest, cmd.Wait()); err != nil {
		return fmt.Errorf("read %s: %w: %s", file, err, strings.TrimSpace(said.String()))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		sum, ok := have[name]
		switch {
		case !ok:
			return fmt.Errorf("%s does not have %s", file, name)
		case want[name] != "" && sum != want[name]:
			return fmt.Errorf("%s has another %s", file, name)
		}
	}
	return nil
}

// readTar reads what a package has.
func readTar(r io.Reader) (contents, error) {
	have := contents{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return have, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)
		if name == "/" {
			name = "/."
		}
		have[name] = ""
		switch h.Typeflag {
		case tar.TypeReg:
			sum := md5.New()
			if _, err := io.Copy(sum, t); err != nil {
				return nil, err
			}
			have[name] = hex.EncodeToString(sum.Sum(nil))
		case tar.TypeLink:
			have[name] = have[path.Clean("/"+h.Linkname)]
		}
	}
}

// same wants a package file to be the one that is installed, by its contents and scripts: the same version may have
// been built twice.
func (d *dpkg) same(ctx context.Context, file string, x pkg) error {
	db, err := d.installed(ctx, x)
	if err != nil {
		return err
	}
	want := contents{}
	for _, name := range db.list {
		if !db.skip[name] {
			want[name] = db.sums[name]
		}
	}
	if err := d.holds(ctx, file, want); err != nil {
		return err
	}
	files, err := db.controlFiles()
	if err != nil {
		return err
	}
	for _, name := range scripts {
		out, exit, err := d.host.query(ctx, "dpkg-deb", "-I", file, name)
		if err != nil {
			return err
		}
		if text, ok := files[name]; ok != (exit == 0) || ok && string(text) != out {
			return fmt.Errorf("%s has another %s", file, name)
		}
	}
	return nil
}
