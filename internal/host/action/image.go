package action

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
)

// imageStep loads a container image. To load one again changes nothing.
type imageStep struct {
	host *Host
	what *manifest.Image
	step *Step
}

// engine returns the first program there is that can load images.
func (i *imageStep) engine() (string, error) {
	names := []string{"docker", "podman", "nerdctl", "ctr"}
	for _, name := range names {
		if _, err := program.LookIn(i.host.Tools.path(), name); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("none of %s is on this host, so the image %s can not be loaded", strings.Join(names, ", "), i.what.Tag)
}

// space returns how an engine with namespaces is called.
func (i *imageStep) space(engine string) []string {
	if ns := i.host.Tools.Namespace; ns != "" && (engine == "nerdctl" || engine == "ctr") {
		return []string{engine, "--namespace", ns}
	}
	return []string{engine}
}

func (i *imageStep) do(ctx context.Context) (program.Result, error) {
	engine, err := i.engine()
	if err != nil {
		return failed(err.Error()), nil
	}
	limited, cancel := context.WithTimeout(ctx, i.step.Timeout)
	defer cancel()
	file, err := i.step.Bundle.Verify(limited, i.what.File)
	if err != nil {
		return failed(err.Error()), ctx.Err()
	}
	argv := append(i.space(engine), "load", "-i", file)
	if engine == "ctr" {
		argv = append(i.space(engine), "images", "import", file)
	}
	r, err := i.host.tool(ctx, i.step, i.step.Timeout, nil, argv...)
	if err != nil || r.State != program.Done {
		return r, err
	}
	id, err := i.id(ctx, engine)
	if err == nil && id == "" {
		err = fmt.Errorf("%s has loaded %s, and there is no image %s in it", engine, i.what.File, i.what.Tag)
	}
	if err != nil {
		r.State, r.Why = program.Failed, err.Error()
	}
	return r, nil
}

// id returns what an engine calls the image of that tag; "" when it has none.
func (i *imageStep) id(ctx context.Context, engine string) (string, error) {
	if engine == "ctr" {
		out, exit, err := i.host.query(ctx, append(i.space(engine), "images", "ls", "-q", "name=="+i.what.Tag)...)
		if err == nil && exit != 0 {
			err = fmt.Errorf("ctr images ls ended with exit code %d", exit)
		}
		return strings.TrimSpace(out), err
	}
	out, exit, err := i.host.query(ctx, append(i.space(engine), "image", "inspect", "--format", "{{.Id}}", i.what.Tag)...)
	if err != nil || exit != 0 { // it says so when there is no such image
		return "", err
	}
	return strings.TrimSpace(out), nil
}

// done compares the image that has the tag with the one in the file. Where they
// can not be compared, the image is loaded once more; do looks at the file itself.
func (i *imageStep) done(ctx context.Context, _ program.Result) (program.Result, error) {
	engine, err := i.engine()
	if err != nil {
		return program.Result{State: program.Unknown, Exit: -1, Why: err.Error()}, nil
	}
	got, err := i.id(ctx, engine)
	if err != nil {
		return program.Result{}, err
	}
	file, err := i.step.Bundle.Verify(ctx, i.what.File)
	want := ""
	if err == nil {
		want, err = digest(ctx, file, i.what.Tag)
	}
	switch {
	case ctx.Err() != nil: // it was not looked at to the end
		return program.Result{}, fmt.Errorf("compare the image %s with its file: %w", i.what.Tag, context.Cause(ctx))
	case err != nil:
		return program.Result{State: program.NotDone, Why: err.Error()}, nil
	}
	if got != "" && strings.TrimPrefix(got, "sha256:") == want {
		return program.Result{State: program.Done}, nil
	}
	return program.Result{State: program.NotDone, Why: fmt.Sprintf("the image %s is %s, not %s", i.what.Tag, orNone(got), want)}, nil
}

// maxIndex bounds the list of images in a file, bytes.
const maxIndex = 1 << 20

// digest reads from an image file, as docker saves them, the digest of the
// configuration of the image with that tag: hex digits, which engines call its id.
func digest(ctx context.Context, file, tag string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("open image file: %w", err)
	}
	defer f.Close()
	in := bufio.NewReader(&reader{ctx, f})
	var r io.Reader = in
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		if r, err = gzip.NewReader(in); err != nil {
			return "", fmt.Errorf("read image file: %w", err)
		}
	}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return "", errors.New("the image file has no manifest.json")
		}
		if err != nil {
			return "", fmt.Errorf("read image file: %w", err)
		}
		if path.Clean(h.Name) != "manifest.json" {
			continue
		}
		var list []struct {
			Config   string
			RepoTags []string
		}
		if err := json.NewDecoder(io.LimitReader(t, maxIndex)).Decode(&list); err != nil {
			return "", fmt.Errorf("read manifest.json of the image file: %w", err)
		}
		for _, m := range list {
			if slices.Contains(m.RepoTags, tag) {
				return strings.TrimSuffix(path.Base(m.Config), ".json"), nil
			}
		}
		return "", fmt.Errorf("the image file has no image %s", tag)
	}
}
