package bundle

import (
	"archive/tar"
	"bytes"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"

	"holdfast/internal/inventory/manifest"
)

// maxText is the longest text file of another layout that is looked into, in bytes.
const maxText = 64 << 10

// pack is what was found in a package of another layout.
type pack struct {
	files []manifest.File
	bytes int64             // of the files
	texts map[string][]byte // content of the files that describe the package
	seen  names
}

// foreign reads a package that has no manifest. Which layout it is shows at the
// end only.
func (s *stream) foreign(o *Options, first *tar.Header, to sink) (*Report, error) {
	switch {
	case o.Signature == nil && !o.AllowUnsigned:
		return nil, refuse("", "it is not signed: its first member is %s, not %s; a package of another layout needs "+
			"--signature FILE", shown(first.Name), manifest.FileManifest)
	case o.Signature != nil && len(o.Keys) == 0:
		return nil, refuse("", "no public key is given to check its signature with; without a key, give no signature")
	}
	s.tape.left = o.maxBytes() + int64(o.maxFiles())*perFile + baseCost
	if err := to.begin(head{}); err != nil {
		return nil, err
	}
	p := &pack{texts: map[string][]byte{}}
	for h := first; h != nil; {
		if err := s.foreignMember(o, h, p, to); err != nil {
			return nil, err
		}
		var err error
		if h, err = s.next(tar.TypeDir); err != nil {
			return nil, err
		}
	}
	if err := s.end(true); err != nil {
		return nil, err
	}
	rep := &Report{}
	if o.Signature != nil && len(o.Keys) > 0 {
		if err := rep.signedBy(o.Keys, o.Signature, "", s.signedWhole); err != nil {
			return nil, err
		}
	}
	return rep, p.describe(rep, o)
}

// signedWhole checks a signature over the whole file, which was read by now.
func (s *stream) signedWhole(k PublicKey, text []byte) bool {
	var sig minisign.Signature
	// Only a signature over a hash can be checked on the way.
	return sig.UnmarshalText(text) == nil && sig.Algorithm == minisign.HashEdDSA && s.all.Verify(k, text)
}

// foreignMember takes one member. Directories may be there, but mean nothing.
func (s *stream) foreignMember(o *Options, h *tar.Header, p *pack, to sink) error {
	for key := range h.PAXRecords {
		if !slices.Contains([]string{"path", "size", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname"}, key) {
			return refuse(h.Name, "its tar header has the record %q", key)
		}
	}
	name := strings.TrimPrefix(h.Name, "./")
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
		if bad := manifest.PathFault(name); bad != "" && name != "" && name != "." {
			return refuse(h.Name, "%s", bad)
		}
		if h.Size != 0 {
			return refuse(h.Name, "it is a directory with content")
		}
		s.done(h)
		return nil
	}
	f, err := p.announce(o, name, h)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if describes(name) {
		to = alsoInto{to, &text}
	}
	if f.SHA256, err = s.copyTo(h, f, to); err != nil {
		return err
	}
	if describes(name) {
		p.texts[name] = text.Bytes()
	}
	p.files = append(p.files, f)
	return nil
}

// announce checks a file before its content is read.
func (p *pack) announce(o *Options, name string, h *tar.Header) (manifest.File, error) {
	f := manifest.File{Path: name, Size: h.Size, Mode: "0644"}
	if h.Mode&0o111 != 0 {
		f.Mode = "0755"
	}
	if manifest.FoldPath(name) == manifest.FoldPath(manifest.FileManifest) {
		return f, refuse(name, "it must be the first member")
	}
	if err := p.seen.add(name); err != nil {
		return f, err
	}
	if describes(name) && h.Size > maxText {
		return f, refuse(name, "it has %d bytes: want at most %d", h.Size, maxText)
	}
	if len(p.files) == o.maxFiles() {
		return f, tooMany(o)
	}
	if h.Size > o.maxBytes()-p.bytes {
		return f, tooLarge(o)
	}
	p.bytes += h.Size
	return f, nil
}

// alsoInto is a sink whose files are kept in memory as well.
type alsoInto struct {
	sink
	text *bytes.Buffer
}

func (a alsoInto) file(f manifest.File, r io.Reader) error {
	return a.sink.file(f, io.TeeReader(r, a.text))
}

// describes reports whether a file says what the package is.
func describes(name string) bool {
	dir, base := path.Split(name)
	switch base {
	case "versions.yml":
		return strings.Count(dir, "/") <= 1
	case "white_list.txt", "env.sh":
		return path.Base(dir) == "action" && strings.Count(dir, "/") <= 2
	}
	return false
}

// describe makes the manifest of a package and counts its files.
func (p *pack) describe(rep *Report, o *Options) error {
	slices.SortFunc(p.files, func(a, b manifest.File) int { return strings.Compare(a.Path, b.Path) })
	var err error
	appctl, cas := p.roots("action/appctl.sh"), p.roots("upgrade.sh")
	switch {
	case len(appctl) == 1:
		rep.Layout = Appctl
		rep.Manifest, err = p.appctl(appctl[0])
	case len(appctl) > 1:
		return refuse("", "it has action/appctl.sh in %d places: %s", len(appctl), strings.Join(appctl, ", "))
	case len(cas) == 1:
		rep.Layout = CAS
		rep.Manifest = p.cas(cas[0])
	default:
		return refuse("", "its layout is not known: want %s as first member, or versions.yml with action/appctl.sh, "+
			"or one upgrade.sh", manifest.FileManifest)
	}
	if err != nil {
		return err
	}
	faults := rep.Manifest.Check()
	if o.Pattern != nil && rep.Layout == Appctl {
		faults = append(faults, rep.Manifest.CheckPatterns(o.Pattern)...)
	}
	if len(faults) > 0 {
		return &Refusal{Reason: "the manifest made for it is wrong", Faults: faults}
	}
	return rep.count(o)
}

// roots returns the directories, "" or "DIR/", below which a file is.
func (p *pack) roots(file string) []string {
	var out []string
	for _, f := range p.files {
		root, ok := strings.CutSuffix(f.Path, file)
		if ok && (root == "" || strings.Count(root, "/") == 1 && strings.HasSuffix(root, "/")) {
			out = append(out, root)
		}
	}
	return out
}

// casTimeout is for the upgrade of a whole platform: its script must not be ended half-way.
const casTimeout = 4 * time.Hour

// cas makes the manifest of a package that is one script, which upgrades the managers and
// all hosts. What it upgrades from is not in it.
func (p *pack) cas(root string) *manifest.Manifest {
	version := "unknown"
	if _, v, ok := strings.Cut(strings.TrimSuffix(root, "/"), "."); ok && v != "" {
		version = strings.ToUpper(v) // upgrade.e0303/
	}
	p.executable(root + "upgrade.sh")
	return &manifest.Manifest{
		Name: "cas", Version: version, RequiresReboot: true,
		UpgradeFrom: []manifest.Source{{Version: "*", Modes: []manifest.Mode{manifest.Offline, manifest.Rolling}}},
		Modules: []manifest.Module{{
			Name: "cas", RunsOn: "manager", Timeout: manifest.Duration(casTimeout), Files: p.files,
			Actions: manifest.Actions{Install: &manifest.Action{Run: []string{root + "upgrade.sh"}, Once: true, AllHosts: true}},
		}},
	}
}

// executable makes a file a program.
func (p *pack) executable(name string) {
	for i := range p.files {
		if p.files[i].Path == name {
			p.files[i].Mode = "0755"
		}
	}
}
