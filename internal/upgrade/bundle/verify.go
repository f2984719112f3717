package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"aead.dev/minisign"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/strictyaml"
)

// sink takes what a package holds. Nothing is proved before the end.
type sink interface {
	// begin comes before the first file. Of a package without a manifest of its
	// own, head is empty.
	begin(head head) error
	// file takes one file; its content has been checked when the next one comes.
	file(f manifest.File, r io.Reader) error
}

// head is what comes before the files of a native bundle.
type head struct {
	m         *manifest.Manifest
	manifest  []byte
	signature []byte // empty: there is none
}

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) begin(head) error { return nil }

func (nowhere) file(_ manifest.File, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// Verify reads a package to its end and checks everything. The error is a
// *Refusal when the package is at fault.
func Verify(ctx context.Context, r io.Reader, o Options) (*Report, error) {
	return read(ctx, r, &o, nowhere{})
}

// Head reads manifest and signature of a native bundle only, and the catalogue of
// versions, which comes next; Files and Bytes are what the manifest announces. Other layouts are read to their end, because
// what they are is known there.
func Head(ctx context.Context, r io.Reader, o Options) (*Report, error) {
	s, first, err := start(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if first.Name != manifest.FileManifest {
		return s.foreign(&o, first, nowhere{})
	}
	rep, _, next, err := s.head(&o, first)
	if err == nil && rep.Manifest.Path != nil {
		err = s.files(rep, next, nowhere{}, true)
	}
	return rep, err
}

// read reads a package of any layout into a sink.
func read(ctx context.Context, r io.Reader, o *Options, to sink) (*Report, error) {
	s, first, err := start(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if first.Name == manifest.FileManifest {
		return s.native(o, first, to)
	}
	return s.foreign(o, first, to)
}

// start opens a stream and reads its first header; directories and global
// headers may stand before the first file of another layout.
func start(ctx context.Context, r io.Reader) (*stream, *tar.Header, error) {
	s, err := open(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	first, err := s.next(tar.TypeDir)
	if err == nil && first == nil {
		err = refuse("", "it has no members")
	}
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, first, nil
}

// native reads a bundle whose first member is the manifest.
func (s *stream) native(o *Options, first *tar.Header, to sink) (*Report, error) {
	rep, hd, next, err := s.head(o, first)
	if err != nil {
		return nil, err
	}
	if err := to.begin(hd); err != nil {
		return nil, err
	}
	if err := s.files(rep, next, to, false); err != nil {
		return nil, err
	}
	return rep, s.end(false)
}

// files reads the files that the manifest lists, all of them or up to the catalogue of
// versions.
func (s *stream) files(rep *Report, h *tar.Header, to sink, upToCatalogue bool) (err error) {
	s.tape.left = rep.Bytes + int64(rep.Files+1)*perFile + baseCost
	listed, catalogue := map[string]manifest.File{}, catalogueFile(rep.Manifest)
	for _, f := range rep.Manifest.Files() {
		listed[f.Path] = f
	}
	for seen := (&names{}); h != nil; {
		var text bytes.Buffer
		into, name := to, h.Name
		if name == catalogue && h.Size <= maxCatalogue {
			into = alsoInto{to, &text}
		}
		if err := s.listedFile(h, listed, seen, into); err != nil {
			return err
		}
		if name == catalogue {
			rep.Catalogue = text.Bytes()
			if upToCatalogue {
				return nil
			}
		}
		if h, err = s.next(); err != nil {
			return err
		}
	}
	for _, f := range rep.Manifest.Files() {
		if _, missing := listed[f.Path]; missing {
			return refuse(f.Path, "the manifest lists it, but it is missing")
		}
	}
	return nil
}

// maxCatalogue is the longest catalogue that is kept, bytes; a longer one is none.
const maxCatalogue = 2 << 20

// listedFile checks one member against the manifest and gives it to the sink.
func (s *stream) listedFile(h *tar.Header, listed map[string]manifest.File, seen *names, to sink) error {
	if err := s.safe(h, seen); err != nil {
		return err
	}
	f, ok := listed[h.Name]
	if !ok {
		return refuse(h.Name, "the manifest does not list it")
	}
	delete(listed, h.Name)
	if h.Size != f.Size {
		return refuse(h.Name, "it has %d bytes, the manifest says %d", h.Size, f.Size)
	}
	if mode, _ := manifest.ParseMode(f.Mode); h.Mode != int64(mode) {
		return refuse(h.Name, "its mode is %04o, the manifest says %s", h.Mode, f.Mode)
	}
	if err := s.canonical(h); err != nil {
		return err
	}
	sum, err := s.copyTo(h, f, to)
	if err == nil && sum != f.SHA256 {
		return refuse(h.Name, "its content is not what the manifest says: the hashes differ")
	}
	return err
}

// safe checks a member's header before anything is done with its name.
func (s *stream) safe(h *tar.Header, seen *names) error {
	for key := range h.PAXRecords {
		if key != "path" && key != "size" {
			return refuse(h.Name, "its tar header has the record %q", key)
		}
	}
	return seen.add(h.Name)
}

// copyTo gives a member's content to the sink and returns its hash.
func (s *stream) copyTo(h *tar.Header, f manifest.File, to sink) (string, error) {
	hash := sha256.New()
	c := &content{r: s.tr}
	r := io.TeeReader(c, hash)
	err := to.file(f, r)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if c.err != nil {
		return "", s.because(h.Name, c.err)
	}
	if err != nil {
		return "", err
	}
	s.done(h)
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// head reads manifest and signature. It returns the header after them, nil at
// the end of the bundle.
func (s *stream) head(o *Options, first *tar.Header) (*Report, head, *tar.Header, error) {
	fail := func(err error) (*Report, head, *tar.Header, error) { return nil, head{}, nil, err }
	var hd head
	var err error
	if err = s.canonical(first); err != nil {
		return fail(err)
	}
	if hd.manifest, err = s.small(first, maxManifest); err != nil {
		return fail(err)
	}
	next, err := s.next()
	if err != nil {
		return fail(err)
	}
	if next != nil && next.Name == manifest.FileSignature {
		if err = s.canonical(next); err != nil {
			return fail(err)
		}
		if hd.signature, err = s.small(next, maxSignature); err != nil {
			return fail(err)
		}
		if next, err = s.next(); err != nil {
			return fail(err)
		}
	}
	if o.Signature != nil {
		return fail(refuse("", "a signature over the whole file is for other layouts; a bundle holds its own"))
	}
	rep := &Report{Layout: Native}
	if err := rep.checkSignature(o, hd); err != nil {
		return fail(err)
	}
	if rep.Manifest, err = parse(hd.manifest, o); err != nil {
		return fail(err)
	}
	hd.m = rep.Manifest
	if err := rep.count(o); err != nil {
		return fail(err)
	}
	return rep, hd, next, nil
}

// checkSignature checks who signed the manifest.
func (rep *Report) checkSignature(o *Options, hd head) error {
	switch {
	case len(hd.signature) == 0 && !o.AllowUnsigned:
		return refuse("", "it is not signed")
	case len(hd.signature) == 0:
		return nil
	case len(o.Keys) == 0 && !o.AllowUnsigned:
		return refuse("", "no public key is given to check its signature with: want --key FILE, or --allow-unsigned")
	case len(o.Keys) == 0:
		return nil
	}
	return rep.signedBy(o.Keys, hd.signature, manifest.FileSignature, func(k PublicKey, sig []byte) bool {
		return minisign.Verify(k, hd.manifest, sig)
	})
}

// signedBy looks for the key of a signature and checks it.
func (rep *Report) signedBy(keys []PublicKey, text []byte, where string, verify func(PublicKey, []byte) bool) error {
	var sig minisign.Signature
	if err := sig.UnmarshalText(text); err != nil {
		if where == "" {
			return refuse("", "the signature can not be read: want the file FILE.minisig that holdfast bundle sign or minisign writes (%v)", err)
		}
		return refuse(where, "the signature can not be read: download the bundle again, or have it signed anew (%v)", err)
	}
	for _, k := range keys {
		if k.ID() != sig.KeyID {
			continue
		}
		if !verify(k, text) {
			return refuse(where, "the signature is wrong: key %s has not signed this", keyID(sig.KeyID))
		}
		rep.Signed, rep.KeyID, rep.Comment = true, keyID(sig.KeyID), sig.TrustedComment
		return nil
	}
	return refuse(where, "it is signed with key %s, which is none of those given", keyID(sig.KeyID))
}

// parse reads and checks a complete manifest.
func parse(text []byte, o *Options) (*manifest.Manifest, error) {
	m := &manifest.Manifest{}
	read := strictyaml.Decode(text, m)
	faults := read.Faults
	if len(faults) == 0 {
		faults = read.Locate(check(m, o.Pattern))
	}
	if len(faults) > 0 {
		return nil, &Refusal{Member: manifest.FileManifest, Reason: "the manifest is wrong", Faults: faults}
	}
	return m, nil
}

// check looks at what a complete manifest says.
func check(m *manifest.Manifest, pattern func(string) error) []manifest.Fault {
	faults := append(m.Check(), nameFaults(m)...)
	if pattern != nil {
		faults = append(faults, m.CheckPatterns(pattern)...)
	}
	return faults
}

// count adds up the files and compares with the limits.
func (rep *Report) count(o *Options) error {
	for _, f := range rep.Manifest.Files() {
		rep.Files++
		if f.Size > o.maxBytes()-rep.Bytes {
			return tooLarge(o)
		}
		rep.Bytes += f.Size
	}
	if rep.Files > o.maxFiles() {
		return tooMany(o)
	}
	return nil
}

func tooLarge(o *Options) error {
	return refuse("", "its files have more than %d bytes", o.maxBytes())
}

func tooMany(o *Options) error { return refuse("", "it has more than %d files", o.maxFiles()) }

// String writes a report's signer for messages.
func (rep *Report) String() string {
	signer := "not signed"
	if rep.Signed {
		signer = "signed with key " + rep.KeyID
	}
	return fmt.Sprintf("%s %s, %s", rep.Manifest.Name, rep.Manifest.Version, signer)
}
