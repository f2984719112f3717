package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster/version"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/request"
)

// bundlePath takes bundles, which are larger than forms.
const bundlePath = "/upgrade/bundle"

// maxKey bounds a key or a signature, bytes.
const maxKey = 64 << 10

// patient is a body that may take as long as it needs, while bytes come.
type patient struct {
	io.ReadCloser
	rc *http.ResponseController
}

// Read waits for the next bytes as long as for a whole form.
func (p *patient) Read(b []byte) (int, error) {
	now := time.Now()
	if err := errors.Join(p.rc.SetReadDeadline(now.Add(bodyTime)), p.rc.SetWriteDeadline(now.Add(bodyTime+answerTime))); err != nil {
		return 0, err
	}
	return p.ReadCloser.Read(b)
}

// contents are what the bundles have that were sent to this console last. Nothing is decided by it.
type contents struct {
	mu    sync.Mutex
	known []content // newest last
}

type content struct {
	request.BundleInfo
	Report *bundle.Report // nil: it could not be read again
}

// maxContents are kept at once.
const maxContents = 8

func (c *contents) add(x content) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = slices.DeleteFunc(c.known, func(y content) bool { return y.SHA256 == x.SHA256 })
	c.known = append(c.known[max(0, len(c.known)-maxContents+1):], x)
}

func (c *contents) get(sha string) *content {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.known, func(x content) bool { return x.SHA256 == sha }); i >= 0 {
		x := c.known[i]
		return &x
	}
	return nil
}

// takeBundle takes a bundle in: the fields of trust come first, the file last. Its size is bounded by the agent.
func (c *Console) takeBundle(w http.ResponseWriter, r *http.Request, v *view) {
	x, err := c.readBundle(w, r, v)
	if err != nil {
		c.trouble(w, r, v, err)
		return
	}
	c.contents.add(x)
	http.Redirect(w, r, "/upgrade/begin?bundle="+x.SHA256, http.StatusSeeOther)
}

func (c *Console) readBundle(w http.ResponseWriter, r *http.Request, v *view) (x content, err error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return x, fail.Errorf(fail.Invalid, "bundle: the form is none that sends a file: %w", err)
	}
	var trust request.Trust
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return x, fail.Errorf(fail.Invalid, "bundle: no file was chosen").With("choose the file of the bundle")
		}
		if err != nil {
			return x, fail.Errorf(fail.Invalid, "bundle: the upload ended too early: %w", err)
		}
		switch name := part.FormName(); name {
		case "bundle":
			if part.FileName() == "" {
				return x, fail.Errorf(fail.Invalid, "bundle: no file was chosen").With("choose the file of the bundle")
			}
			return c.sendBundle(r.Context(), w, v, part, trust)
		case "key", "keyfile", "signature", "unsigned":
			text, err := small(part)
			if err != nil {
				return x, err
			}
			switch {
			case len(text) == 0:
			case name == "signature":
				trust.Signature = text
			case name == "unsigned":
				trust.AllowUnsigned = true
			default:
				trust.Keys = append(trust.Keys, string(text))
			}
		default:
			return x, fail.Errorf(fail.Invalid, "field %.70q: want key, keyfile, signature, unsigned, bundle", name)
		}
	}
}

// small reads a field or a small file.
func small(part *multipart.Part) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(part, maxKey+1))
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%s: the upload ended too early: %w", part.FormName(), err)
	}
	if len(text) > maxKey {
		return nil, fail.Errorf(fail.Invalid, "%s: want at most %d bytes", part.FormName(), maxKey)
	}
	return text, nil
}

// sendBundle passes a bundle on while it comes, and looks at what it has.
func (c *Console) sendBundle(ctx context.Context, w http.ResponseWriter, v *view, file io.Reader,
	trust request.Trust) (x content, err error) {
	o := bundle.Options{AllowUnsigned: true, Pattern: version.AnyPattern, Signature: trust.Signature}
	for i, text := range trust.Keys {
		key, err := bundle.ParsePublicKey([]byte(text))
		if err != nil {
			return x, fail.Errorf(fail.Invalid, "key %d: %w", i+1, err)
		}
		o.Keys = append(o.Keys, key)
	}
	look, to := io.Pipe()
	aside := &aside{to: to}
	var looking sync.WaitGroup
	looking.Go(func() {
		rep, err := bundle.Head(ctx, look, o)
		if err == nil {
			x.Report = rep
		} else {
			c.Log.Debug("console: the content of a bundle is not shown", "err", err)
		}
		look.CloseWithError(errSeen)
	})
	ended := &atEnd{Reader: io.TeeReader(file, aside), then: func() error {
		return errors.Join(to.Close(), longAnswer(w)) // the agent checks the rest of it, and keeps it
	}}
	x.BundleInfo, err = v.api.PutBundle(ctx, ended, trust)
	to.CloseWithError(io.ErrUnexpectedEOF) // where it was not read to its end
	looking.Wait()
	return x, err
}

// errSeen ends what nobody looks at any more.
var errSeen = errors.New("all that is looked at has been seen")

// aside writes to who looks on, and goes on without him.
type aside struct {
	to   io.Writer
	gone bool
}

func (a *aside) Write(p []byte) (int, error) {
	if !a.gone {
		_, err := a.to.Write(p)
		a.gone = err != nil
	}
	return len(p), nil
}

// atEnd does something at the end of what is read.
type atEnd struct {
	io.Reader
	then func() error
}

func (a *atEnd) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		if terr := a.then(); terr != nil {
			return n, fmt.Errorf("read the bundle: %w", terr)
		}
	}
	return n, err
}

// signedBy says whether a bundle is signed, and by whom.
func signedBy(v *view, x request.BundleInfo) string {
	switch {
	case x.Unsigned:
		return v.T("UNSIGNED: anybody may have made it")
	case x.KeyID != "":
		return v.T("signed by key " + strings.ToUpper(x.KeyID))
	}
	return v.T("signed")
}
