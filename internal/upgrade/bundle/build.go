package bundle

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/upgrade/catalogue"
)

// BuildOptions say how a bundle is built.
type BuildOptions struct {
	Key         *PrivateKey // signs the manifest; nil makes an unsigned bundle
	Compression Compression
	Pattern     func(pattern string) error // checks the syntax of version patterns; nil checks none
}

// Build makes a bundle of the directory dir: its file manifest.yaml, completed,
// and all other files, each of which a module lists. The same input gives the
// same bytes. What is wrong in dir is a *Refusal; out holds something useful
// only when there is no error.
func Build(ctx context.Context, dir string, out io.Writer, o BuildOptions) (*Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("build a bundle: %w", err)
	}
	defer root.Close()
	m, err := complete(ctx, root, o.Pattern)
	if err != nil {
		return nil, err
	}
	rep := &Report{Manifest: m, Layout: Native}
	if err := rep.count(&Options{}); err != nil {
		return nil, err
	}
	text, err := strictyaml.Encode(m)
	if err != nil {
		return nil, err
	}
	if len(text) > maxManifest {
		return nil, refuse(manifest.FileManifest, "complete, it has %d bytes, want at most %d: bundle fewer files, "+
			"or an archive of them", len(text), maxManifest)
	}
	w, err := newWriter(out, o.Compression)
	if err != nil {
		return nil, err
	}
	if err := w.head(rep, text, o.Key); err != nil {
		return nil, err
	}
	if o.Key != nil {
		rep.Signed, rep.KeyID = true, keyID(o.Key.ID())
	}
	files := m.Files()
	slices.SortFunc(files, func(a, b manifest.File) int { // the catalogue first: plans read no further
		return cmp.Or(inventory.CompareBools(a.Path != catalogueFile(m), b.Path != catalogueFile(m)), strings.Compare(a.Path, b.Path))
	})
	for _, f := range files {
		if err := w.from(ctx, root, f); err != nil {
			return nil, err
		}
	}
	return rep, w.close()
}

// complete reads the manifest of a tree and fills in what the files say.
func complete(ctx context.Context, root *os.Root, pattern func(string) error) (*manifest.Manifest, error) {
	text, err := readManifest(root)
	if err != nil {
		return nil, err
	}
	m := &manifest.Manifest{}
	read := strictyaml.Decode(text, m)
	faults := read.Faults
	if len(faults) == 0 {
		t := &tree{ctx: ctx, root: root, found: map[string]fs.FileInfo{}, listed: map[string]bool{}}
		if err := t.walk(); err != nil {
			return nil, err
		}
		for i := range m.Modules {
			if err := t.module(fmt.Sprintf("modules[%d]", i), &m.Modules[i]); err != nil {
				return nil, err
			}
		}
		t.leftOver()
		t.catalogue(m)
		if faults = t.faults; len(faults) == 0 || read.Empty() {
			faults = check(m, pattern)
		}
	}
	if len(faults) > 0 {
		return nil, &Refusal{Member: manifest.FileManifest, Reason: "the bundle can not be built", Faults: read.Locate(faults)}
	}
	return m, nil
}

func readManifest(root *os.Root) ([]byte, error) {
	info, err := root.Lstat(manifest.FileManifest)
	if err != nil {
		return nil, refuse(manifest.FileManifest, "%v", errors.Unwrap(err))
	}
	if !info.Mode().IsRegular() || info.Size() > maxManifest {
		return nil, refuse(manifest.FileManifest, "want a regular file of at most %d bytes", maxManifest)
	}
	text, err := root.ReadFile(manifest.FileManifest)
	if err != nil {
		return nil, fmt.Errorf("build a bundle: %w", err)
	}
	return text, nil
}

// tree is what a directory holds, compared with what a manifest lists.
type tree struct {
	ctx    context.Context
	root   *os.Root
	found  map[string]fs.FileInfo // regular files without the manifest
	listed map[string]bool
	faults []manifest.Fault
}

func (t *tree) fault(path, value, want string) {
	t.faults = append(t.faults, manifest.Fault{Path: path, Value: value, Want: want})
}

// walk finds all files. What is no regular file is a fault.
func (t *tree) walk() error {
	err := fs.WalkDir(t.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, t.ctx.Err()); err != nil {
			return err
		}
		if d.IsDir() || name == manifest.FileManifest {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case info.Mode().IsRegular():
			t.found[name] = info
		case info.Mode()&fs.ModeSymlink != 0:
			t.fault("(tree)", name, "want regular files and directories only, this is "+t.link(name))
		default:
			t.fault("(tree)", name, "want regular files and directories only, this is a device, pipe or socket")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("build a bundle: %w", err)
	}
	return nil
}

// link tells where a symbolic link leads.
func (t *tree) link(name string) string {
	_, err := t.root.Stat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "a symbolic link that leads out of the tree"
	}
	return "a symbolic link"
}

// module completes the files of a module.
func (t *tree) module(at string, mod *manifest.Module) error {
	var out []manifest.File
	for j, f := range mod.Files {
		here := fmt.Sprintf("%s.files[%d]", at, j)
		files := t.expand(here, f)
		for _, f := range files {
			if t.listed[f.Path] {
				t.fault(here, f.Path, "want each file once")
				continue
			}
			t.listed[f.Path] = true
			done, err := t.fill(here, f)
			if err != nil {
				return err
			}
			out = append(out, done)
		}
	}
	mod.Files = out
	return nil
}

// expand returns the files that an entry stands for.
func (t *tree) expand(at string, f manifest.File) []manifest.File {
	if !strings.HasSuffix(f.Path, "/") {
		if t.found[f.Path] == nil {
			t.fault(at, f.Path, "want a regular file of the tree, by its path below it")
			return nil
		}
		return []manifest.File{f}
	}
	var out []manifest.File
	for name := range t.found {
		if strings.HasPrefix(name, f.Path) {
			out = append(out, manifest.File{Path: name, Mode: f.Mode})
		}
	}
	if len(out) == 0 {
		t.fault(at, f.Path, "want a directory of the tree that has files")
	}
	slices.SortFunc(out, func(a, b manifest.File) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// fill completes one file. What the manifest says already must be right.
func (t *tree) fill(at string, f manifest.File) (manifest.File, error) {
	in, err := t.root.Open(f.Path)
	if err != nil {
		return f, fmt.Errorf("build a bundle: %w", err)
	}
	defer in.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, &input{ctx: t.ctx, r: in})
	if err != nil {
		return f, fmt.Errorf("build a bundle: read %s: %w", f.Path, err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if f.SHA256 != "" && f.SHA256 != sum || f.Size != 0 && f.Size != size {
		t.fault(at, f.Path, "want size and sha256 as the file has them, or neither")
	}
	f.SHA256, f.Size = sum, size
	if f.Mode == "" {
		f.Mode = "0644"
		if t.found[f.Path].Mode()&0o111 != 0 {
			f.Mode = "0755"
		}
	}
	return f, nil
}

// catalogue wants a catalogue of versions that can be read.
func (t *tree) catalogue(m *manifest.Manifest) {
	name := catalogueFile(m)
	if t.found[name] == nil {
		return // its absence is found elsewhere
	}
	text, err := t.root.ReadFile(name)
	if err == nil {
		_, err = catalogue.Parse(name, text)
	}
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		t.fault("path.catalogue", name, "want a catalogue of versions: "+first)
	}
}

// leftOver finds the files that no module lists.
func (t *tree) leftOver() {
	var names []string
	for name := range t.found {
		if !t.listed[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		t.fault("(tree)", n, "want no file that no module lists")
	}
}

// writer writes the members of a bundle.
type writer struct {
	tw *tar.Writer
	zw io.WriteCloser
}

func newWriter(out io.Writer, c Compression) (*writer, error) {
	zw, err := compress(out, c)
	if err != nil {
		return nil, err
	}
	return &writer{tw: tar.NewWriter(zw), zw: zw}, nil
}

// head writes the manifest and its signature.
func (w *writer) head(rep *Report, text []byte, key *PrivateKey) error {
	if err := w.member(manifest.FileManifest, int64(len(text)), 0o644, strings.NewReader(string(text))); err != nil {
		return err
	}
	if key == nil {
		return nil
	}
	sig := sign(*key, text, rep)
	return w.member(manifest.FileSignature, int64(len(sig)), 0o644, strings.NewReader(string(sig)))
}

// member writes one member; nothing in it depends on when and by whom.
func (w *writer) member(name string, size, mode int64, r io.Reader) error {
	err := w.tw.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: mode, ModTime: time.Unix(0, 0),
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	n, err := io.Copy(w.tw, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came, want %d", n, size)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// from writes a file of a tree, and sees to it that it is the one that was
// hashed.
func (w *writer) from(ctx context.Context, root *os.Root, f manifest.File) error {
	in, err := root.Open(f.Path)
	if err != nil {
		return fmt.Errorf("build a bundle: %w", err)
	}
	defer in.Close()
	hash := sha256.New()
	mode, _ := manifest.ParseMode(f.Mode)
	err = w.member(f.Path, f.Size, int64(mode), io.TeeReader(&input{ctx: ctx, r: in}, hash))
	if err == nil && hex.EncodeToString(hash.Sum(nil)) != f.SHA256 {
		err = fmt.Errorf("build a bundle: %s changed meanwhile", f.Path)
	}
	return err
}

func (w *writer) close() error {
	if err := w.tw.Close(); err != nil {
		return fmt.Errorf("end the bundle: %w", err)
	}
	if err := w.zw.Close(); err != nil {
		return fmt.Errorf("end the bundle: %w", err)
	}
	return nil
}
